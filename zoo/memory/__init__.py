"""Implementations of the category *memory*; the registry says which papers."""
