"""Batch against weight normalization in a small residual network with little data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.bn_vs_wn import bn_vs_wn


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))


def _net(width: int = 16) -> nn.Sequential:
    stem = [nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(
        *stem, _Block(width), _Block(width), _Block(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


def better_training_worse_test(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Training and test accuracy of BN, WN and normalization propagation on 300 digits."""
    data = digits()
    x, y = data.x_train[:300], data.y_train[:300]
    measured = {}
    for kind in ("batch_norm", "weight_norm", "norm_prop"):
        train, test = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            model = _net()
            if kind == "weight_norm":
                bn_vs_wn(model, x)
            elif kind == "norm_prop":
                bn_vs_wn(model, variant="norm_prop")
            rate = 0.05 if kind == "batch_norm" else 0.01  # without BN 0.05 diverges
            fit(model, x, y, epochs=20, batch_size=30, lr=rate, seed=seed)
            train.append(accuracy(model, x, y))
            test.append(accuracy(model, data.x_test, data.y_test))
        measured[f"{kind}_train"], measured[f"{kind}_test"] = mean_and_spread(train), mean_and_spread(test)
    return Outcome(
        status=verdict(
            measured["weight_norm_train"]["mean"] >= measured["batch_norm_train"]["mean"],
            measured["weight_norm_test"]["mean"] < measured["batch_norm_test"]["mean"] - 1,
        ),
        measured=measured,
        setting="300 digits, residual network of three blocks of 16 channels, SGD momentum 0.9, batch 30, 20 epochs, "
        "lr 0.05 for BN and 0.01 for the others",
        tolerance="WN at least as good on the training set, more than 1 point worse on the test set, in the mean",
    )
