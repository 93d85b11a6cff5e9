"""Implementations of the category *optimizers*; the registry says which papers."""
