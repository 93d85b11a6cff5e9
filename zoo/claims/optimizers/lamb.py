"""Claims of Large Batch Optimization for Deep Learning (LAMB)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from timm.optim import Lamb
from torch import Tensor

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.optimizers._net import backward, mlp, path_end

LR, STEPS = 0.02, 30
Factory = Callable[[list[Tensor]], torch.optim.Optimizer]


def relative_steps(make: Factory, seed: int) -> list[list[float]]:
    """``||change|| / ||w||`` of the three weight matrices at every full-batch step on digits."""
    data, model = digits(), mlp(seed)
    matrices: list[torch.Tensor] = [p for p in model.parameters() if p.dim() == 2]
    optimizer = make(matrices)
    history = []
    for _ in range(STEPS):
        backward(model, data.x_train, data.y_train)
        before = [p.detach().clone() for p in matrices]
        optimizer.step()
        history.append([float((p.detach() - b).norm() / b.norm()) for p, b in zip(matrices, before, strict=True)])
    return history


def layer_step(seeds: Sequence[int]) -> Outcome:
    """Every layer moves by lr of its own norm, at every step; AdamW's relative steps stand beside it, not judged."""
    error, spread = [], []
    for seed in seeds:
        lamb = relative_steps(lambda ps: Lamb(ps, lr=LR, max_grad_norm=None), seed)
        adamw = relative_steps(lambda ps: torch.optim.AdamW(ps, lr=LR, weight_decay=0.01), seed)
        error.append(max(abs(r / LR - 1) for step in lamb for r in step))
        spread.append(sum(max(step) / min(step) for step in adamw) / STEPS)
    return Outcome(
        status=verdict(max(error) < 1e-4),
        measured={
            "LAMB, largest deviation of relative step / lr from 1": {"max": max(error), "n": len(error)},
            "AdamW, largest / smallest relative step among layers": mean_and_spread(spread),
        },
        setting=f"digits 8x8, MLP 64-128-128-10, full batch, {STEPS} steps at lr {LR}, weight decay 0.01, no clipping",
        tolerance="LAMB within 1e-4 at every layer and step in every seed",
    )


def scale_invariance(seeds: Sequence[int]) -> Outcome:
    """Gradients a thousand times as large: LAMB goes the same way, SGD does not."""
    moved: dict[str, list[float]] = {"LAMB": [], "SGD": []}
    for seed in seeds:
        for name, make in (
            ("LAMB", lambda ps: Lamb(ps, lr=LR, eps=1e-12, max_grad_norm=None)),
            ("SGD", lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9)),
        ):
            start, end, _ = path_end(make, seed, [1.0] * STEPS)
            _, other, _ = path_end(make, seed, [1000.0] * STEPS)
            distance = float((other - end).norm() / (end - start).norm())
            moved[name].append(min(distance, 1000.0) if math.isfinite(distance) else 1000.0)
    return Outcome(
        status=verdict(max(moved["LAMB"]) < 1e-2, min(moved["SGD"]) > 1.0),
        measured={
            f"{name}, distance of ends / length of way (1000 at most)": mean_and_spread(v) for name, v in moved.items()
        },
        setting=f"digits 8x8, MLP, full batch, {STEPS} steps, lr {LR} (LAMB), 0.1 with momentum 0.9 (SGD), eps 1e-12",
        tolerance="LAMB ends within 1 % of its way, SGD further off than its whole way, in every seed",
    )


def small_scale_accuracy(seeds: Sequence[int]) -> Outcome:
    """At a full batch and 20 steps, does LAMB beat a tuned AdamW? Both at the best rate of the same kind of grid."""
    data = digits()

    def best(make: Callable[[list[Tensor], float], torch.optim.Optimizer], grid: Sequence[float]) -> list[float]:
        table = []
        for lr in grid:
            scores = []
            for seed in seeds:
                model = mlp(seed)
                optimizer = make(list(model.parameters()), lr)
                for _ in range(20):
                    backward(model, data.x_train, data.y_train)
                    optimizer.step()
                with torch.no_grad():
                    scores.append(100 * float((model(data.x_test).argmax(1) == data.y_test).float().mean()))
            table.append(scores)
        return max(table, key=sum)

    lamb = best(lambda ps, lr: Lamb(ps, lr=lr, max_grad_norm=None), (0.01, 0.03, 0.1, 0.3))
    adamw = best(lambda ps, lr: torch.optim.AdamW(ps, lr=lr), (0.001, 0.003, 0.01, 0.03))
    return Outcome(
        status=verdict(sum(lamb) / len(lamb) > sum(adamw) / len(adamw) + 1.0),
        measured={"LAMB accuracy %": mean_and_spread(lamb), "AdamW accuracy %": mean_and_spread(adamw)},
        setting="digits 8x8, MLP 64-128-128-10, full batch of 1297, 20 steps, best of four rates each",
        tolerance="LAMB's mean test accuracy is more than one point above AdamW's",
    )
