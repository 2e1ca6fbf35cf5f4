"""Sparring aligns language models by game-theoretic self-play."""

__version__ = "0.1.0"
