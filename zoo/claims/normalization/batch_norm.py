"""Claims of Batch Normalization (arXiv 1502.03167)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit


def deep_sigmoid(seeds: Sequence[int]) -> Outcome:
    """A deep net of saturating units trains with batch norm, and does not without."""
    runs: dict[str, list[float]] = {"with": [], "without": []}
    for seed in seeds:
        data = digits(seed=seed)
        for name, values in runs.items():
            torch.manual_seed(seed)
            layers: list[nn.Module] = [nn.Flatten()]
            for i in range(10):
                layers += [nn.Linear(100 if i else 64, 100)]
                layers += [nn.BatchNorm1d(100)] if name == "with" else []
                layers += [nn.Sigmoid()]
            model = nn.Sequential(*layers, nn.Linear(100, 10))
            fit(model, data.x_train, data.y_train, epochs=8, batch_size=32, lr=0.1, seed=seed)
            values.append(accuracy(model, data.x_test, data.y_test))
    return Outcome(
        status=verdict(min(runs["with"]) >= 80, max(runs["without"]) <= 20),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=(
            "scikit-learn digits (500 held out), MLP of ten sigmoid layers of 100, SGD 0.1 with momentum "
            "0.9, batch 32, 8 epochs"
        ),
        tolerance="80 % or more with batch norm, at most 20 % (10 % is chance) without, in every seed",
    )
