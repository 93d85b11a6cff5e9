"""Claims of Moving Average Batch Normalization (arXiv 2001.06838)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.normalization import _cifar
from zoo.claims.normalization._nets import SETTING, table


def micro_batch(seeds: Sequence[int]) -> Outcome:
    """With normalising batches of two, MABN is where batch norm with the full batch is, and above batch renorm."""
    runs = table(("bn", "bn_2", "brn_2", "mabn_2"), tuple(seeds))
    means = {name: sum(values) / len(values) for name, values in runs.items()}
    above = all(m > max(a, b) for m, a, b in zip(runs["mabn_2"], runs["brn_2"], runs["bn_2"], strict=True))
    return Outcome(
        status=verdict(means["mabn_2"] >= means["bn"] - 2, above),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=SETTING + "; MABN with centred linear layers and stores of 8",
        tolerance="MABN-2 at most 2 points below BN with the full batch on average, above BRN-2 and BN-2 in every seed",
    )


def cifar10_micro_batch(seeds: Sequence[int]) -> Outcome:
    """On CIFAR-10 with normalising batches of two."""
    found = _cifar.runs(("bn", "bn_2", "brn_2", "mabn_2"), seeds)
    mean = _cifar.means(found)
    above = all(m > max(a, b) for m, a, b in zip(found["mabn_2"], found["brn_2"], found["bn_2"], strict=True))
    return Outcome(
        status=verdict(mean["mabn_2"] >= mean["bn"] - 2, above),
        measured=_cifar.measured(found),
        setting=_cifar.SETTING + "; MABN with centred convolutions and stores of 16",
        tolerance="MABN-2 at most 2 points below BN with the full batch on average, above BRN-2 and BN-2 in every seed",
    )
