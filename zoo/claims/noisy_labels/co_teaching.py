"""Claims of co-teaching (arXiv 1804.06872), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.co_teaching import CoTeaching


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Co-teaching that is told the true rate."""
    return p.resists(lambda model, n: CoTeaching(model, forget_rate=0.4, num_samples=n), seeds)
