"""Claims of loss correction (arXiv 1609.03683), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.forward_correction import ForwardCorrection
from zoo.training.noise import transition_matrix


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Forward correction with the true matrix."""
    return p.resists(p.criterion(lambda: ForwardCorrection(transition_matrix("symmetric_exclusive", 0.4, 10))), seeds)
