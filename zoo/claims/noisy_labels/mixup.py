"""Claims of mixup (arXiv 1710.09412), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.mixup import Mixup


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """mixup with alpha 1: does it slow the memorisation of wrong labels?"""
    return p.resists(lambda model, n: Mixup(model), seeds)
