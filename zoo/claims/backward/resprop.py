"""ReSprop: how much of the gradient can be reused before accuracy suffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.backward.resprop import GradientReuse, ReSpropLinear, set_reuse
from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit


def accuracy_kept(seeds: Sequence[int]) -> Outcome:
    """A perceptron with no reuse, half, and nine tenths, the last with and without warm-up."""
    data = digits()
    settings = {
        "dense": (0.0, False),
        "half": (0.5, False),
        "nine_tenths": (0.9, False),
        "nine_tenths_warm": (0.9, True),
    }
    epochs, scores, shares = 12, {n: [] for n in settings}, []  # type: int, dict[str, list[float]], list[float]
    for seed in seeds:
        for name, (reuse, warm) in settings.items():
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Flatten(), ReSpropLinear(64, 256, reuse=reuse), nn.ReLU(),
                ReSpropLinear(256, 256, reuse=reuse), nn.ReLU(), nn.Linear(256, 10),
            )  # fmt: skip
            adam = torch.optim.Adam(net.parameters(), lr=1e-3)
            for epoch in range(epochs):
                if warm:
                    set_reuse(net, reuse * min(1.0, epoch / 6))
                for module in net.modules():
                    if isinstance(module, GradientReuse):
                        module.reset()
                fit(net, data.x_train, data.y_train, epochs=1, optimizer=adam, seed=1000 * seed + epoch)
            scores[name].append(accuracy(net, data.x_test, data.y_test))
            if name == "nine_tenths":
                shares += [float(m.survived) for m in net.modules() if isinstance(m, GradientReuse)]
    mean = {name: sum(v) / len(v) for name, v in scores.items()}
    return Outcome(
        verdict(mean["half"] >= mean["dense"] - 1.1, mean["nine_tenths_warm"] >= mean["dense"] - 1.1),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()}
        | {"differences_kept_at_nine_tenths": mean_and_spread(shares)},
        "digits, perceptron 64-256-256-10, both hidden layers; Adam 1e-3, 12 epochs, batch 64; stored gradients are "
        "forgotten at each epoch; warm-up over 6 epochs. Simulated: the products are dense",
        "half reused within 1.1 points of dense on the mean (the paper's margin); nine tenths with warm-up likewise",
    )
