"""Implementations of the category *upsampling*; the registry says which papers."""
