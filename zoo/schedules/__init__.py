"""Implementations of the category *schedules*; the registry says which papers."""
