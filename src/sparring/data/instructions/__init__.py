"""Instructions that code can check: the two families of rules, what they need installed, and what excludes what."""
