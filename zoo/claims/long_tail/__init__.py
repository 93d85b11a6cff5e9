"""Claim checks of the category *long_tail*."""
