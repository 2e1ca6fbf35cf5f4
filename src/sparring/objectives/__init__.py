"""Losses as pure functions of log-probabilities: over pairs, single responses and lists."""
