"""Claims of active-passive loss (arXiv 2006.13554), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.active_passive_loss import ActivePassiveLoss


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """NCE + RCE with weights (1, 1)."""
    return p.resists(p.criterion(ActivePassiveLoss), seeds)
