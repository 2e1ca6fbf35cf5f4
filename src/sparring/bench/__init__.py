"""Benchmarks that anyone can rerun: our stages beside a peer's, in processes of their own, as ratios."""
