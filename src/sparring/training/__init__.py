"""Packing, log-probabilities without logits, the anchor pass, the fit loop and its checkpoints."""
