"""Claim checks of the category *upsampling*."""
