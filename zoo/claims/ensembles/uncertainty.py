"""Claims of MC dropout (arXiv 1506.02142), on digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import fit
from zoo.ensembles.uncertainty import mc_dropout


def foreign_inputs(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Mutual information and entropy on held-out digits and on the same digits turned by 90 degrees."""
    found: dict[str, list[float]] = {n: [] for n in ("entropy", "turned_entropy", "information", "turned_information")}
    for seed in seeds:
        data = digits(seed=seed)
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(256, 10),
        )  # fmt: skip
        fit(model, data.x_train, data.y_train, epochs=40, lr=0.05, seed=seed)
        for prefix, x in (("", data.x_test), ("turned_", data.x_test.rot90(1, (2, 3)))):
            result = mc_dropout(model, x, passes=50)
            found[prefix + "entropy"].append(float(result.entropy.mean()))
            found[prefix + "information"].append(float(result.mutual_information.mean()))
    holds = [
        all(b > 2 * a for a, b in zip(found[n], found["turned_" + n], strict=True)) for n in ("entropy", "information")
    ]
    return Outcome(
        verdict(*holds),
        {name: mean_and_spread(v) for name, v in found.items()},
        "digits, MLP 64-256-256-10 with dropout 0.5, SGD lr 0.05, 40 epochs, 50 passes; foreign: test digits turned by 90°",
        "entropy and mutual information on turned digits more than twice those on upright ones, in every seed",
    )
