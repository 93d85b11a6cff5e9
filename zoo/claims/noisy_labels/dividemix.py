"""Claims of DivideMix (in-loop variant) (arXiv 2002.07394), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.dividemix import DivideMix


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """The in-loop variant with 5 epochs of warm-up and lambda_u 25."""
    return p.resists(lambda model, n: DivideMix(model, n, warmup=5), seeds)
