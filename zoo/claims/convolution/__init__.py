"""Claim checks of the category *convolution*."""
