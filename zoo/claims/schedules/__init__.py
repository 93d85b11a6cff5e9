"""Claim checks of the category *schedules*."""
