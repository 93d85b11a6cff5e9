"""Claims of the confidence penalty (arXiv 1701.06548), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.losses.confidence_penalty import ConfidencePenalty


def stops_memorisation(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Does it keep the network from learning wrong labels by heart?"""
    return p.resists(p.criterion(lambda: ConfidencePenalty(0.5)), seeds)
