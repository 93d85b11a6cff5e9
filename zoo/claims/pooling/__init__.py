"""Claim checks of the category *pooling*."""
