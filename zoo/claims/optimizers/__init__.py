"""Claim checks of the category *optimizers*."""
