"""Implementations of the category *weights*; the registry says which papers."""
