"""Checkpoints: found, pinned, downloaded, verified, loaded, converted and published. No pickle is read here.

Importing this package imports neither torch nor timm nor the Hub's client; each module does so where it works.
"""
