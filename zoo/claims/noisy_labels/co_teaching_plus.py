"""Claims of co-teaching+ (arXiv 1901.04215), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.co_teaching_plus import CoTeachingPlus


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Co-teaching+ that is told the true rate, after 5 epochs of warm-up."""
    return p.resists(lambda model, n: CoTeachingPlus(model, forget_rate=0.4, warmup=5, num_samples=n), seeds)
