"""Estimates, before anything runs, of the memory, tokens, time and disk of a run."""
