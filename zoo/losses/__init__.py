"""Implementations of the category *losses*; the registry says which papers."""
