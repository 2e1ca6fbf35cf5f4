"""The recipe of a run: its sections, reading it, and explaining its mistakes."""
