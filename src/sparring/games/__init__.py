"""Exact finite games: their equilibria and the dynamics of the papers (numpy and scipy only)."""

from sparring.games import dynamics as dynamics
