"""Claim checks of the category *normalization*."""
