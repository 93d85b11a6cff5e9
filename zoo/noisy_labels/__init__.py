"""Implementations of the category *noisy_labels*; the registry says which papers."""
