"""What a run will need, before anything runs: memory, tokens, time and disk."""
