"""create(), swap() and their reports."""
