"""The pages of `sparring serve`: watching runs, and voting on pairs of answers."""
