"""Policies and answer files against each other, in a folder that can be computed again."""
