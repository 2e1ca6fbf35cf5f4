"""The only code that speaks HTTP to a model, and the same questions answered by a model in this process."""
