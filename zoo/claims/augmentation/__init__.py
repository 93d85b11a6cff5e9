"""Claim checks of the category *augmentation*."""
