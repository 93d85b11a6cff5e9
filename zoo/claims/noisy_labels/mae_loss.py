"""Claims of MAE as a robust loss (arXiv 1712.09482), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.mae_loss import MAELoss


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Does MAE keep its accuracy and leave the wrong labels alone?"""
    return p.resists(p.criterion(MAELoss), seeds)
