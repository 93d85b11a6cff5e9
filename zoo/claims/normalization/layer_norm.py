"""Claims of Layer Normalization (arXiv 1607.06450)."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.normalization._nets import SETTING, table


def small_batch(seeds: Sequence[int]) -> Outcome:
    """Layer norm does not know the batch: as good as batch norm with a large one, where a small one makes that fail."""
    runs = table(("bn", "bn_2", "ln"), tuple(seeds))
    means = {name: sum(values) / len(values) for name, values in runs.items()}
    return Outcome(
        status=verdict(means["ln"] >= means["bn"] - 2, means["ln"] - means["bn_2"] >= 10),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=SETTING,
        tolerance="LN at most 2 points below BN with the large batch, and 10 or more above BN with batch 2",
    )
