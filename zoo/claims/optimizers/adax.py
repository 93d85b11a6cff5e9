"""Claims of AdaX: Adaptive Gradient Descent with Exponential Long Term Memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.optimizers._net import mlp, path_end
from zoo.claims.train import accuracy, fit
from zoo.optimizers.adax import AdaX, AdaXW

LONG, SHORT = 300, 300


def long_memory(seeds: Sequence[int]) -> Outcome:
    """After gradients shrink a hundredfold Adam speeds up again, AdaX does not: second half of the way."""
    scales = [1.0] * LONG + [0.01] * SHORT
    ratios: dict[str, list[float]] = {"AdaX": [], "Adam": []}
    for seed in seeds:
        for name, make in (
            ("AdaX", lambda ps: AdaX(ps, lr=1.5e-3, weight_decay=0.0)),
            ("Adam", lambda ps: torch.optim.Adam(ps, lr=1e-3, betas=(0.9, 0.99))),
        ):
            _, full, _ = path_end(make, seed, [1.0] * (LONG + SHORT))
            _, shrunk, _ = path_end(make, seed, scales)
            _, middle, _ = path_end(make, seed, [1.0] * LONG)
            ratios[name].append(float((shrunk - middle).norm() / (full - middle).norm()))
    return Outcome(
        status=verdict(max(ratios["AdaX"]) < 0.1, min(ratios["Adam"]) > 0.3),
        measured={f"{name}, way with shrunken / with true gradients": mean_and_spread(v) for name, v in ratios.items()},
        setting=f"digits 8x8, MLP, full batch, {LONG} steps, then {SHORT} with gradients x0.01; Adam's beta2 = 0.99",
        tolerance="AdaX's second half shrinks below a tenth, Adam's stays above three tenths, in every seed",
    )


def generalises_better(seeds: Sequence[int]) -> Outcome:
    """AdaX-W against AdamW, each with the paper's hyperparameters, on digits (not the paper's data)."""
    data = digits()
    found: dict[str, list[float]] = {"AdaX-W": [], "AdamW": []}
    for seed in seeds:
        for name, make in (
            ("AdaX-W", lambda ps: AdaXW(ps)),
            ("AdamW", lambda ps: torch.optim.AdamW(ps, lr=1e-3, weight_decay=0.1)),
        ):
            model = mlp(seed)
            optimizer = make(model.parameters())
            fit(model, data.x_train, data.y_train, epochs=30, batch_size=32, seed=seed, optimizer=optimizer)
            found[name].append(accuracy(model, data.x_test, data.y_test))
    return Outcome(
        status=verdict(sum(found["AdaX-W"]) > sum(found["AdamW"])),
        measured={f"{name}, test accuracy %": mean_and_spread(v) for name, v in found.items()},
        setting="digits 8x8, MLP 64-128-128-10, batch 32, 30 epochs; AdaX-W 5e-3 / 0.05, AdamW 1e-3 / 0.1",
        tolerance="mean test accuracy of AdaX-W above that of AdamW",
    )
