"""Implementations of the category *long_tail*; the registry says which papers."""
