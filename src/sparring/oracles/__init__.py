"""Preference oracles: the interface, the shipped ones, and the guard that stages ask through."""
