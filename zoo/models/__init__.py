"""Backbones that timm does not have: small enough to train and to bundle."""
