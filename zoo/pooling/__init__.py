"""Implementations of the category *pooling*; the registry says which papers."""
