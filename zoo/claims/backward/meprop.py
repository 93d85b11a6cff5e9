"""meProp: what it saves, and what it costs in accuracy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

from zoo.backward.meprop import MePropLinear
from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.claims.train import accuracy, fit


def accuracy_kept(seeds: Sequence[int]) -> Outcome:
    """Perceptrons on MNIST: all gradients, the unified 30 of 256, and 30 for each example."""
    data = mnist5k()

    def net(mode: str | None) -> nn.Sequential:
        def hidden(n: int) -> nn.Module:
            return nn.Linear(n, 256) if mode is None else MePropLinear(n, 256, k=30, mode=mode)

        return nn.Sequential(nn.Flatten(), hidden(784), nn.ReLU(), hidden(256), nn.ReLU(), nn.Linear(256, 10))

    modes = {"dense": None, "unified": "unified", "per_example": "per_example"}
    scores: dict[str, list[float]] = {name: [] for name in modes}
    for seed in seeds:
        for name, mode in modes.items():
            torch.manual_seed(seed)
            model = net(mode)
            fit(model, data.x_train[:2000], data.y_train[:2000], epochs=6, batch_size=50, lr=0.05, seed=seed)
            scores[name].append(accuracy(model, data.x_test, data.y_test))
    mean = {name: sum(v) / len(v) for name, v in scores.items()}
    return Outcome(
        verdict(mean["unified"] >= mean["dense"] - 0.5, mean["per_example"] >= mean["dense"] - 0.5),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()},
        "MNIST (2000 images), perceptron 784-256-256-10, k = 30 in both hidden layers, output layer dense; SGD 0.05, momentum 0.9, "
        "6 epochs, batch 50",
        "unified within half a point of dense on the mean; per example likewise",
    )


def unified_is_faster(seeds: Sequence[int]) -> Outcome:
    """Time of the backward pass of one layer, dense and with 30 outputs."""
    size, batch = 512, 64
    ratio: dict[str, list[float]] = {"unified": [], "per_example": []}
    for seed in seeds:
        torch.manual_seed(seed)
        layers: dict[str, nn.Module] = {
            "dense": nn.Linear(size, size),
            "unified": MePropLinear(size, size, k=30),
            "per_example": MePropLinear(size, size, k=30, mode="per_example"),
        }
        x, g = torch.randn(batch, size), torch.randn(batch, size)
        runs: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(40):
            for name, layer in layers.items():
                leaf = x.clone().requires_grad_()
                y = layer(leaf)
                start = time.perf_counter()
                torch.autograd.grad(y, [leaf, *layer.parameters()], g)
                runs[name].append(time.perf_counter() - start)
        for name in ratio:
            ratio[name].append(median(runs["dense"]) / median(runs[name]))
    return Outcome(
        verdict(min(ratio["unified"]) >= 1.5),
        {f"{name}_speedup": mean_and_spread(v) for name, v in ratio.items()},
        f"backward pass of one {size} x {size} layer, batch {batch}, k = 30, CPU, median of 40 interleaved runs",
        "the unified backward pass at least 1.5 times as fast as the dense one for every seed; per example is only shown",
    )
