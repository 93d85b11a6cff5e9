"""Implementations of the category *convolution*; the registry says which papers."""
