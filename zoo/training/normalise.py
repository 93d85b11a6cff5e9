"""Preprocessing of the bundled digits network, in one place for training, demo and tests."""

from __future__ import annotations

from torch import Tensor

MEAN, STD = 0.5, 0.5


def digits_input(x: Tensor) -> Tensor:
    """Images in [0, 1] to the range that the weights expect."""
    return (x - MEAN) / STD
