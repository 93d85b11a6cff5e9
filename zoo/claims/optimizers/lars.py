"""Claims of Large Batch Training of Convolutional Networks (LARS)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.optim import Lars

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.optimizers._net import path_end

STEPS, LR, CAP = 20, 20.0, 1000.0
GRID = (0.05, 0.2, 0.4, 0.8, 1.6, 3.2)
LARS_GRID = (1.0, 5.0, 20.0, 50.0, 100.0, 200.0)


def scale_invariance(seeds: Sequence[int]) -> Outcome:
    """Gradients a thousand times as large: LARS goes the same way (without decay), SGD does not."""
    moved: dict[str, list[float]] = {"LARS": [], "SGD": []}
    for seed in seeds:
        for name, make in (
            ("LARS", lambda ps: Lars(ps, lr=LR, momentum=0.9, always_adapt=True, eps=0.0)),
            ("SGD", lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9)),
        ):
            start, end, _ = path_end(make, seed, [1.0] * STEPS)
            _, other, _ = path_end(make, seed, [1000.0] * STEPS)
            distance = float((other - end).norm() / (end - start).norm())
            moved[name].append(min(distance, CAP) if math.isfinite(distance) else CAP)
    return Outcome(
        status=verdict(max(moved["LARS"]) < 1e-2, min(moved["SGD"]) > 1.0),
        measured={
            f"{name}, distance of ends / length of way (1000 at most)": mean_and_spread(v) for name, v in moved.items()
        },
        setting=f"digits 8x8, MLP, full batch, {STEPS} steps, momentum 0.9, lr {LR:g} (LARS), 0.1 (SGD)",
        tolerance="LARS ends within 1 % of its way, SGD further off than its whole way, in every seed",
    )


def large_batch(seeds: Sequence[int]) -> Outcome:
    """Full batch and 20 steps on digits, not the paper's setting: LARS against SGD, each at its best rate."""
    data = digits()

    def score(make, lr: float) -> list[float]:  # type: ignore[no-untyped-def]
        found = []
        for seed in seeds:
            _, _, model = path_end(lambda ps: make(ps, lr), seed, [1.0] * STEPS)
            with torch.no_grad():
                found.append(100 * float((model(data.x_test).argmax(1) == data.y_test).float().mean()))
        return found

    sgd = max((score(lambda ps, lr: torch.optim.SGD(ps, lr=lr, momentum=0.9), lr) for lr in GRID), key=sum)
    lars = max(
        (score(lambda ps, lr: Lars(ps, lr=lr, momentum=0.9, weight_decay=1e-4), lr) for lr in LARS_GRID), key=sum
    )
    return Outcome(
        status=verdict(sum(lars) / len(lars) > sum(sgd) / len(sgd) + 1.0),
        measured={"LARS accuracy %": mean_and_spread(lars), "SGD accuracy %": mean_and_spread(sgd)},
        setting=f"digits 8x8, MLP, full batch of 1297, {STEPS} steps, momentum 0.9, best of six rates each",
        tolerance="LARS's mean test accuracy is more than one point above SGD's",
    )
