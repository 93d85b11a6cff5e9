"""Claim checks of the category *activations*."""
