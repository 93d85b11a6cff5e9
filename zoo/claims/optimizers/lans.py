"""Claim of Accelerated Large Batch Optimization of BERT Pretraining in 54 minutes (LANS)."""

from __future__ import annotations

from collections.abc import Sequence

from timm.optim import Lamb

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.optimizers._net import path_end
from zoo.optimizers.lans import LANS

STEPS, SPIKE, LR = 40, 100.0, 0.02


def spike(seeds: Sequence[int]) -> Outcome:
    """One gradient that is 100 times too large: LANS does not notice, LAMB without clipping leaves its path."""
    calm = [1.0] * STEPS
    spiked = [SPIKE if step == STEPS // 2 else 1.0 for step in range(STEPS)]
    moved: dict[str, list[float]] = {"LANS": [], "LAMB": []}
    for seed in seeds:
        for name, make in (
            ("LANS", lambda ps: LANS(ps, lr=LR, eps=1e-12)),
            ("LAMB", lambda ps: Lamb(ps, lr=LR, eps=1e-12, max_grad_norm=None)),
        ):
            start, end, _ = path_end(make, seed, calm)
            _, other, _ = path_end(make, seed, spiked)
            moved[name].append(float((other - end).norm() / (end - start).norm()))
    return Outcome(
        status=verdict(max(moved["LANS"]) < 1e-3, min(moved["LAMB"]) > 0.1),
        measured={
            f"{name}, distance of the two ends / length of the way": mean_and_spread(v) for name, v in moved.items()
        },
        setting=f"digits 8x8, MLP 64-128-128-10, full batch, {STEPS} steps at lr {LR}, step {STEPS // 2} x{SPIKE:g}",
        tolerance="LANS ends within 0.1 % of its way, LAMB more than 10 % of its way off, in every seed",
    )
