"""Claim checks of the category *weights*."""
