"""What a user asks for: the sections of a recipe, reading it, and explaining what is wrong with it."""
