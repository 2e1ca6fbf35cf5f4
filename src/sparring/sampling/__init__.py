"""Engines that draw responses from a policy: the interface, and transformers."""
