"""BN-only training on digits against as many random weights, and against no training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.bn_only import bn_only, random_weights_only, trainable_numbers


def _net(width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, width, 2), (width, width, 2), (width, 2 * width, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def against_random_weights(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy with only gamma and beta trained, with two random weights per channel trained, and untrained."""
    data = digits()
    scores: dict[str, list[float]] = {"bn_only": [], "random_weights": [], "untrained": []}
    numbers = {}
    for seed in seeds:
        for kind, found in scores.items():
            torch.manual_seed(seed)
            model = bn_only(_net()) if kind != "random_weights" else random_weights_only(_net(), 2, seed)
            numbers[kind] = trainable_numbers(model)
            if kind == "untrained":
                with torch.no_grad():  # running statistics of the data, nothing else
                    for batch in data.x_train.split(64):
                        model.train()(batch)
            else:
                moved = [p for p in model.parameters() if p.requires_grad]
                optimizer = torch.optim.SGD(moved, lr=0.1, momentum=0.9)
                fit(model, data.x_train, data.y_train, epochs=6, batch_size=64, seed=seed, optimizer=optimizer)
            found.append(accuracy(model, data.x_test, data.y_test))
    measured = {kind: mean_and_spread(found) for kind, found in scores.items()}
    return Outcome(
        status=verdict(
            measured["bn_only"]["mean"] > measured["random_weights"]["mean"],
            measured["bn_only"]["mean"] > measured["untrained"]["mean"] + 20,
        ),
        measured={**measured, "trained_numbers": {k: numbers[k] for k in ("bn_only", "random_weights")}},
        setting="digits, three 3x3 convolutions (64, 64, 128) with BN, output layer frozen as well, SGD 0.1 "
        "momentum 0.9, batch 64, 6 epochs",
        tolerance="BN-only above as many random weights, and 20 points above the untrained network, in the mean",
    )
