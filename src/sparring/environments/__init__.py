"""Games between roles of one model: prompts made from responses, and a reward for each response."""
