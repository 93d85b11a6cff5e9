"""Claims of early-learning regularisation (arXiv 2007.00151), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.elr import ELR


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """ELR(0.7, 3), the setting for CIFAR-10 with symmetric noise."""
    return p.resists(lambda model, n: ELR(model, n, 10), seeds)
