"""The library's own algorithms played on exact games, and the papers' theorems as measured claims."""
