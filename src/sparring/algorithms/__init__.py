"""One short file per method; `algorithm.py` holds the interface and the table."""
