"""Claims of JoCoR (arXiv 2003.02752), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.jocor import JoCoR


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """JoCoR(0.9) that is told the true rate."""
    return p.resists(lambda model, n: JoCoR(model, forget_rate=0.4, num_samples=n), seeds)
