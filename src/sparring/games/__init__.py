"""Exact finite games: equilibria, dynamics, players on the library's own objects, certificates."""
