"""Streaming normalization on digits at batches of one and two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.streaming_norm import StreamingNorm, follow_optimizer


def _mlp(kind: str) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (64, 64, 64):
        layers += [nn.Linear(inputs, 64), StreamingNorm(64) if kind == "streaming" else nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def small_batch(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy of an MLP: streaming at batch 1 and 2, batch normalization at 2 and 32."""
    data = digits()
    measured = {}
    for kind, size in (("streaming", 1), ("streaming", 2), ("batch_norm", 2), ("batch_norm", 32)):
        scores = []
        for seed in seeds:
            torch.manual_seed(seed)
            model = _mlp(kind)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05 if size == 32 else 0.01)
            if kind == "streaming":
                with torch.no_grad():
                    model.train()(data.x_train[:64])  # warm-up pass: the statistics start from more than one sample
                follow_optimizer(model, optimizer)
            n, epochs = (500, 2) if size < 32 else (1297, 5)
            fit(
                model,
                data.x_train[:n],
                data.y_train[:n],
                epochs=epochs,
                batch_size=size,
                seed=seed,
                optimizer=optimizer,
            )
            scores.append(accuracy(model, data.x_test, data.y_test))
        measured[f"{kind}_batch_{size}"] = mean_and_spread(scores)
    two, one = measured["streaming_batch_2"]["mean"], measured["streaming_batch_1"]["mean"]
    return Outcome(
        status=verdict(two > measured["batch_norm_batch_2"]["mean"] + 5, one > 50),
        measured=measured,
        setting="digits, MLP of 3 hidden layers of 64; 500 images for 2 epochs at SGD 0.01 (batch 1, 2), all for "
        "5 epochs at 0.05 (batch 32); default coefficients, one warm-up pass of 64 images",
        tolerance="at batch 2 more than 5 points above batch normalization at batch 2; above 50 % at batch 1",
    )
