"""Normalization layers that no well-kept library has right; the registry names the others."""
