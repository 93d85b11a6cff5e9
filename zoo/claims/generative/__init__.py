"""Claim checks of the category *generative*."""
