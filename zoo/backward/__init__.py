"""Implementations of the category *backward*; the registry says which papers."""
