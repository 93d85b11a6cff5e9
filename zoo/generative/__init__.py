"""Implementations of the category *generative*; the registry says which papers."""
