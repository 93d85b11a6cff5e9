"""Implementations of the category *metric_learning*; the registry says which papers."""
