"""Evaluation of trained policies: rule checks, held-out prompts and measures."""
