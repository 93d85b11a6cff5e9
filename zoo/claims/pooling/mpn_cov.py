"""MPN-COV: does the square root of the covariance beat the covariance itself, and both the average?"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.pooling._heads import head_scores


def square_root_helps(seeds: Sequence[int]) -> Outcome:
    """Accuracy with the mean, the covariance (alpha = 1) and its square root (alpha = 1/2)."""
    scores, setting = head_scores(("gap", "covariance", "mpn_cov"), seeds)
    mean = {name: sum(v) / len(v) for name, v in scores.items()}
    return Outcome(
        verdict(mean["mpn_cov"] > mean["covariance"], mean["mpn_cov"] > mean["gap"]),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()},
        setting,
        "mean accuracy of alpha = 1/2 above that of alpha = 1; and above that of global average pooling",
    )
