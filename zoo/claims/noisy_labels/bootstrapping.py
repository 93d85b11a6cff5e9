"""Claims of bootstrapping (arXiv 1412.6596), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.bootstrapping import Bootstrapping


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Hard bootstrapping with weight 0.8 on the label."""
    return p.resists(p.criterion(Bootstrapping), seeds)
