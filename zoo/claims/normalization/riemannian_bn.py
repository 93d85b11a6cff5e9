"""SGD-G and Adam-G on digits: staying on the sphere, and test error against SGD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.riemannian_bn import SGDG, AdamG, grassmann_groups


def _net() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 8, 1), (8, 16, 2), (16, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def lower_error_than_sgd(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Test accuracy of a small BN network under SGD, SGD-G and Adam-G, and the length of the manifold filters."""
    data = digits()
    measured, drift = {}, 0.0
    for kind in ("sgd", "sgd_g", "adam_g"):
        scores = []
        for seed in seeds:
            torch.manual_seed(seed)
            model = _net()
            optimizer: torch.optim.Optimizer
            if kind == "sgd":
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
            elif kind == "sgd_g":
                optimizer = SGDG(grassmann_groups(model, lr_grassmann=0.2))
            else:
                optimizer = AdamG(grassmann_groups(model, lr_grassmann=0.05))
            fit(model, data.x_train, data.y_train, epochs=8, batch_size=64, seed=seed, optimizer=optimizer)
            scores.append(accuracy(model, data.x_test, data.y_test))
            for group in optimizer.param_groups:
                for w in group["params"] if group.get("grassmann") else []:
                    drift = max(drift, float((w.detach().flatten(1).norm(dim=1) - 1).abs().max()))
        measured[f"{kind}_accuracy"] = mean_and_spread(scores)
    sgd = measured["sgd_accuracy"]["mean"]
    return Outcome(
        status=verdict(
            measured["sgd_g_accuracy"]["mean"] >= sgd, measured["adam_g_accuracy"]["mean"] >= sgd, drift < 1e-5
        ),
        measured={**measured, "largest_drift_from_the_sphere": drift},
        setting="digits, three 3x3 convolutions (8, 16, 32) with BN, batch 64, 8 epochs; SGD 0.1 Nesterov decay 5e-4, "
        "SGD-G 0.2 and Adam-G 0.05 on the manifold with 0.01 elsewhere, omega 0.1, clip 0.1",
        tolerance="mean test accuracy of SGD-G and of Adam-G at least that of SGD; filters of length 1 within 1e-5",
    )
