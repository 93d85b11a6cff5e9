"""Claim checks of the category *memory*."""
