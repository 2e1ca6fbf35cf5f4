"""Players of an algorithm on a game: exact fits, finitely many samples, or a tiny language model."""
