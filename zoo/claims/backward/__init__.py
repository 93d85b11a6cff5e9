"""Claim checks of the category *backward*."""
