"""Claim checks of the category *ensembles*."""
