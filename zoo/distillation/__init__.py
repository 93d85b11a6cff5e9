"""Implementations of the category *distillation*; the registry says which papers."""
