"""Normalized convolution on digits at batch 2, and the speed of its three-convolution form."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.normalized_conv import NormalizedConv2d


def _net(kind: str, width: int = 16) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, width, 1), (width, width, 2), (width, 2 * width, 2)):
        if kind == "nc":
            layers.append(NormalizedConv2d(inputs, outputs, 3, stride, 1))
        else:
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)]
            layers += [nn.GroupNorm(4, outputs) if kind == "gn" else nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def small_batch(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy at batch 2 with SGD and with Adam: NC against GN and BN."""
    data = digits()
    x, y = data.x_train[:500], data.y_train[:500]
    measured = {}
    for kind in ("nc", "gn", "bn"):
        for name in ("sgd", "adam"):
            scores = []
            for seed in seeds:
                torch.manual_seed(seed)
                model = _net(kind)
                optimizer: torch.optim.Optimizer = (
                    torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
                    if name == "sgd"
                    else torch.optim.Adam(model.parameters(), lr=1e-3)
                )
                fit(model, x, y, epochs=3, batch_size=2, seed=seed, optimizer=optimizer)
                scores.append(accuracy(model, data.x_test, data.y_test))
            measured[f"{kind}_{name}"] = mean_and_spread(scores)
    means = {key: value["mean"] for key, value in measured.items()}
    return Outcome(
        status=verdict(means["nc_sgd"] >= means["gn_sgd"] - 2, means["nc_sgd"] >= means["bn_sgd"] - 2),
        measured=measured,
        setting="500 digits, three 3x3 convolutions (16, 16, 32), batch 2, 3 epochs; "
        "SGD lr 0.01 momentum 0.9, Adam lr 1e-3",
        tolerance="with SGD, NC within 2 points of GroupNorm or better, and of BatchNorm or better",
    )


def _seconds(run: Callable[[], Tensor], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run().sum().backward()
        best = min(best, time.perf_counter() - start)
    return best


def faster_than_unfold(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Forward and backward time of the three-convolution form against unfolding and against one convolution."""
    ratios, overheads, errors = [], [], []
    for seed in seeds:
        torch.manual_seed(seed)
        layer, plain = NormalizedConv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        x = torch.randn(8, 64, 32, 32, requires_grad=True)

        def unfolded(layer: NormalizedConv2d = layer, x: Tensor = x) -> Tensor:
            patches = F.unfold(x, 3, padding=1)
            var, mean = torch.var_mean(patches, 1, correction=0, keepdim=True)
            y = layer.weight.flatten(1) @ ((patches - mean) / torch.sqrt(var + layer.eps))
            return y.view_as(x) + (layer.bias.view(1, -1, 1, 1) if layer.bias is not None else 0)

        errors.append(float((layer(x) - unfolded()).detach().abs().max()))
        ours = _seconds(lambda layer=layer, x=x: layer(x))  # type: ignore[misc]
        ratios.append(_seconds(unfolded) / ours)
        overheads.append(ours / _seconds(lambda plain=plain, x=x: plain(x)))  # type: ignore[misc]
    speed, cost = mean_and_spread(ratios), mean_and_spread(overheads)
    return Outcome(
        status=verdict(speed["mean"] >= 5, cost["mean"] <= 3.5, max(errors) < 1e-4),
        measured={"unfold_over_nc": speed, "nc_over_conv": cost, "max_abs_difference": max(errors)},
        setting="(8, 64, 32, 32), 64 filters of 3x3, float32, forward and backward, best of five",
        tolerance="at least 5 times faster than unfolding, at most 3.5 plain convolutions, outputs equal to 1e-4",
    )
