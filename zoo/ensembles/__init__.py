"""Implementations of the category *ensembles*; the registry says which papers."""
