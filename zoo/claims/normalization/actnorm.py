"""ActNorm on digits: unit first-batch moments through depth, and training at a batch of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.actnorm import ActNorm


def _mlp(norm: Callable[[int], nn.Module] | None, depth: int = 4, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers.append(nn.Linear(64 if i == 0 else width, width))
        if norm is not None:
            layers.append(norm(width))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(width, 10))


def small_batch(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy of a 4-layer MLP trained at batch 2 with BN and with ActNorm initialised on 256 images."""
    data = digits()
    scores: dict[str, list[float]] = {"batch_norm": [], "actnorm": [], "none": []}
    for seed in seeds:
        for kind, found in scores.items():
            torch.manual_seed(seed)
            norm = {"batch_norm": nn.BatchNorm1d, "actnorm": ActNorm, "none": None}[kind]
            model = _mlp(norm)
            if kind == "actnorm":
                model.train()(data.x_train[:256])  # the authors initialise on 256 images as well
            fit(model, data.x_train, data.y_train, epochs=2, batch_size=2, lr=0.01, momentum=0.0, seed=seed)
            found.append(accuracy(model, data.x_test, data.y_test))
    measured = {kind: mean_and_spread(found) for kind, found in scores.items()}
    gap = measured["actnorm"]["mean"] - measured["batch_norm"]["mean"]
    return Outcome(
        status=verdict(gap >= 5, measured["actnorm"]["mean"] >= 90),
        measured={**measured, "gap": round(gap, 2)},
        setting="digits, MLP of 4 hidden layers of 64, ReLU, SGD 0.01, batch 2, 2 epochs",
        tolerance="ActNorm at least 5 points above BatchNorm, and at 90 % or more",
    )


def first_batch_moments(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Moments of every normalised activation of an 8-layer MLP on the batch that initialised it."""
    data = digits()
    worst_mean, worst_std = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = _mlp(ActNorm, depth=8).double()
        x = data.x_train[:256].double()
        model(x)
        mean = std = 0.0
        for layer in model:
            x = layer(x)
            if isinstance(layer, ActNorm):
                mean = max(mean, float(x.mean(0).abs().max().detach()))
                std = max(std, float((x.std(0, correction=0) - 1).abs().max().detach()))
        worst_mean.append(mean)
        worst_std.append(std)
    return Outcome(
        status=verdict(max(worst_mean) < 1e-4, max(worst_std) < 1e-4),
        measured={"largest_mean": max(worst_mean), "largest_std_error": max(worst_std)},
        setting="digits, MLP of 8 hidden layers of 64, first 256 training images, float64",
        tolerance="means and |std - 1| below 1e-4 in every channel of every layer",
    )
