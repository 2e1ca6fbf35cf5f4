"""A user's rows as examples, rules that code can check, and the prompts that travel with Sparring."""
