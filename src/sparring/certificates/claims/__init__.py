"""Statements of papers and derivations about the algorithms, each checked by a computation."""
