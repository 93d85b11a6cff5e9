"""Weight normalization on digits: moments after initialisation, and speed of learning in a deep MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.weights.weight_norm import data_dependent_init, weight_norm


def _mlp(depth: int, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def init_moments(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Pre-activation moments of a 10-layer MLP on the batch that initialised it, and those of torch's default."""
    data = digits()
    means, deviations, plain = [], [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = _mlp(10)
        x = data.x_train[:500]
        with torch.no_grad():
            plain.append(float(model(x).std(0, correction=0).mean()))
            data_dependent_init(weight_norm(model, init_std=0.05), x)
            mean = deviation = 0.0
            for layer in model:
                x = layer(x)
                if isinstance(layer, nn.Linear):
                    mean = max(mean, float(x.mean(0).abs().max()))
                    deviation = max(deviation, float((x.std(0, correction=0) - 1).abs().max()))
        means.append(mean)
        deviations.append(deviation)
    return Outcome(
        status=verdict(max(means) < 1e-3, max(deviations) < 1e-3),
        measured={
            "largest_mean": max(means),
            "largest_std_error": max(deviations),
            "last_layer_std_without": mean_and_spread(plain),
        },
        setting="digits, MLP with 10 hidden layers of 64, ReLU, 500 images, float32",
        tolerance="in every unit of every layer |mean| < 1e-3 and |std - 1| < 1e-3",
    )


def learns_faster(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Training loss of a 10-layer MLP with weight normalization and data init against the plain network."""
    data = digits()
    measured: dict[str, Any] = {}
    for kind in ("plain", "weight_norm"):
        for rate in (0.003, 0.02):
            losses, scores = [], []
            for seed in seeds:
                torch.manual_seed(seed)
                model = _mlp(10)
                if kind == "weight_norm":
                    data_dependent_init(weight_norm(model, init_std=0.05), data.x_train[:500])
                history = fit(model, data.x_train, data.y_train, epochs=8, batch_size=64, lr=rate, seed=seed)
                losses.append(min(history[-1], 10.0) if math.isfinite(history[-1]) else 10.0)
                scores.append(accuracy(model, data.x_test, data.y_test))
            found = mean_and_spread(losses)
            if found["mean"] < measured.get(f"{kind}_loss", {"mean": 11.0})["mean"]:
                measured |= {f"{kind}_loss": found, f"{kind}_accuracy": mean_and_spread(scores), f"{kind}_lr": rate}
    return Outcome(
        status=verdict(
            measured["weight_norm_loss"]["mean"] < measured["plain_loss"]["mean"],
            measured["weight_norm_accuracy"]["mean"] > measured["plain_accuracy"]["mean"],
        ),
        measured=measured,
        setting="digits, MLP with 10 hidden layers of 64, ReLU, SGD momentum 0.9, the better of lr 0.003 and 0.02 "
        "by training loss (10 where it diverges), batch 64, 8 epochs",
        tolerance="after 8 epochs lower mean training loss and higher mean test accuracy than the plain network",
    )
