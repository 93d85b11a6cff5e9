"""Claim checks of the category *losses*."""
