"""Dynamic sparse graph: guessed, true and random selections at two sparsities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.backward.dynamic_sparse_graph import DynamicSparseConv2d
from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit


def projection_selects_well(seeds: Sequence[int]) -> Outcome:
    """Accuracy of a small network, dense and with half and four fifths of its activations dropped."""
    data = digits()
    settings = {"dense": (0.0, "oracle")} | {
        f"{kind}_{int(100 * gamma)}": (gamma, kind)
        for gamma in (0.5, 0.8)
        for kind in ("projection", "oracle", "random")
    }
    scores: dict[str, list[float]] = {name: [] for name in settings}
    for seed in seeds:
        for name, (gamma, kind) in settings.items():
            torch.manual_seed(seed)
            net = nn.Sequential(
                DynamicSparseConv2d(1, 20, sparsity=gamma, selection=kind),
                DynamicSparseConv2d(20, 20, stride=2, sparsity=gamma, selection=kind),
                nn.Flatten(), nn.Linear(320, 10),
            )  # fmt: skip
            adam = torch.optim.Adam(net.parameters(), lr=3e-3)
            fit(net, data.x_train, data.y_train, epochs=4, optimizer=adam, seed=seed)
            scores[name].append(accuracy(net, data.x_test, data.y_test))
    mean = {name: sum(v) / len(v) for name, v in scores.items()}
    return Outcome(
        verdict(
            mean["projection_80"] >= mean["dense"] - 2,
            mean["projection_50"] > mean["random_50"] and mean["projection_80"] > mean["random_80"],
        ),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()},
        "digits, two 3 x 3 convolutions of 20 channels, linear layer; epsilon 0.5; Adam 3e-3, 4 epochs, batch 64",
        "projection within 2 points of dense at 80 % sparsity on the mean; above random selection at 50 and 80 %",
    )
