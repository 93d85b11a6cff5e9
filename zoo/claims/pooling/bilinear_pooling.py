"""Bilinear pooling: second-order statistics against averages."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.pooling._heads import head_scores


def beats_average_pooling(seeds: Sequence[int]) -> Outcome:
    """Accuracy with global average pooling and with bilinear pooling on one small network."""
    scores, setting = head_scores(("gap", "bilinear"), seeds)
    gain = min(a - b for a, b in zip(scores["bilinear"], scores["gap"], strict=True))
    return Outcome(
        verdict(gain > 0),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()} | {"smallest_gain": round(gain, 2)},
        setting,
        "bilinear pooling above global average pooling for every seed",
    )
