"""What papers and derivations say of the algorithms, each checked by a computation."""
