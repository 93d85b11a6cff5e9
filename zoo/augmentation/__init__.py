"""Implementations of the category *augmentation*; the registry says which papers."""
