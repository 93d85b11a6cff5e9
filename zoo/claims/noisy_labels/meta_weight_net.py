"""Claims of Meta-Weight-Net (arXiv 1902.07379), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.meta_weight_net import MetaWeightNet


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """With 100 clean samples held out from training; both sides train on the rest."""
    return p.resists(lambda model, n: MetaWeightNet(model, num_samples=n), seeds, clean_per_class=10)
