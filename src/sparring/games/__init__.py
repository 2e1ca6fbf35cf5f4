"""Exact finite games: their equilibria and the dynamics of the papers (numpy and scipy only); black-box games."""

from sparring.games import arise as arise
from sparring.games import black_box as black_box
from sparring.games import dynamics as dynamics
