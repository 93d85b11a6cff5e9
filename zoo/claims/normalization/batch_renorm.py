"""Claims of Batch Renormalization (arXiv 1702.03275)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
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
