"""Claims of Weight Standardization (arXiv 1903.10520)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.normalization import _cifar
from zoo.claims.normalization._nets import cnn
from zoo.claims.train import accuracy, fit
from zoo.weights.weight_standardization import WSConv2d


def helps_group_norm(seeds: Sequence[int]) -> Outcome:
    """Group norm with standardised weights trains faster than group norm alone."""
    runs: dict[str, list[float]] = {"gn_loss": [], "gn_ws_loss": [], "gn_accuracy": [], "gn_ws_accuracy": []}
    for seed in seeds:
        data = digits(seed=seed)
        for name, conv in (("gn", nn.Conv2d), ("gn_ws", WSConv2d)):
            torch.manual_seed(seed)
            model = cnn(lambda c: nn.GroupNorm(8, c), conv, width=16)
            history = fit(model, data.x_train, data.y_train, epochs=4, batch_size=32, lr=0.05, seed=seed)
            runs[f"{name}_loss"].append(sum(history) / len(history))
            runs[f"{name}_accuracy"].append(accuracy(model, data.x_test, data.y_test))
    faster = all(b < a for a, b in zip(runs["gn_loss"], runs["gn_ws_loss"], strict=True))
    means = {name: sum(values) / len(values) for name, values in runs.items()}
    return Outcome(
        status=verdict(faster, means["gn_ws_accuracy"] > means["gn_accuracy"]),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=(
            "scikit-learn digits (500 held out), three-layer CNN, GroupNorm with 8 groups, SGD 0.05 with "
            "momentum 0.9, batch 32, 4 epochs"
        ),
        tolerance="lower training loss, averaged over the run, in every seed, and higher mean accuracy",
    )


def cifar10_group_norm(seeds: Sequence[int]) -> Outcome:
    """On CIFAR-10: group norm with standardised weights against group norm alone and BN."""
    found = _cifar.runs(("bn", "bn_2", "gn", "ws_gn"), seeds)
    mean = _cifar.means(found)
    above = all(b > a for a, b in zip(found["gn"], found["ws_gn"], strict=True))
    return Outcome(
        status=verdict(above, mean["ws_gn"] >= mean["bn"]),
        measured=_cifar.measured(found),
        setting=_cifar.SETTING + "; GN with 8 groups, independent of either batch",
        tolerance="WS+GN above GN in every seed; on average at least where BN is with its full batch",
    )
