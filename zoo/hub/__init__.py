"""Checkpoints: found, pinned, downloaded, verified, loaded, converted and published. Nothing that loads reads a pickle.

Importing this package imports neither torch nor timm nor the Hub's client; each module does so where it works.
"""
