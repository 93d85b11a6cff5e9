"""Implementations of the category *activations*; the registry says which papers."""
