"""Claim checks of the category *noisy_labels*."""
