"""Claims of Batch Renormalization (arXiv 1702.03275)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.normalization import _cifar
from zoo.claims.normalization._nets import SETTING, table


def micro_batch(seeds: Sequence[int]) -> Outcome:
    """With small normalising batches batch renorm loses much less than batch norm."""
    runs = table(("bn", "bn_2", "brn_2"), tuple(seeds))
    gains = [b - a for a, b in zip(runs["bn_2"], runs["brn_2"], strict=True)]
    return Outcome(
        status=verdict(min(gains) > 0, sum(gains) / len(gains) >= 10),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=SETTING + "; schedule in the paper's proportions over the whole run, momentum 0.01",
        tolerance="BRN above BN at batch 2 in every seed, and by 10 points or more on average",
    )


def cifar10_micro_batch(seeds: Sequence[int]) -> Outcome:
    """On CIFAR-10 with normalising batches of two."""
    found = _cifar.runs(("bn", "bn_2", "brn_2"), seeds)
    mean = _cifar.means(found)
    above = all(b > a for a, b in zip(found["bn_2"], found["brn_2"], strict=True))
    return Outcome(
        status=verdict(above, mean["brn_2"] - mean["bn_2"] >= (mean["bn"] - mean["bn_2"]) / 2),
        measured=_cifar.measured(found),
        setting=_cifar.SETTING + "; schedule in the paper's proportions over the whole run, momentum 0.01",
        tolerance="BRN-2 above BN-2 in every seed, and wins back half of what BN lost or more on average",
    )
