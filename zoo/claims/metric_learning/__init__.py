"""Claim checks of the category *metric_learning*."""
