"""Claim checks of the category *distillation*."""
