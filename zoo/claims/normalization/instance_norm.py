"""Claims of Instance Normalization (arXiv 1607.08022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.normalization._nets import cnn
from zoo.claims.train import accuracy, fit

CONTRASTS = (0.3, 1.0, 3.0)


def contrast_invariance(seeds: Sequence[int]) -> Outcome:
    """The contrast of a test image does not reach a network with instance norm; with batch norm it does."""
    runs: dict[str, dict[float, list[float]]] = {n: {c: [] for c in CONTRASTS} for n in ("in", "bn")}
    for seed in seeds:
        data = digits(seed=seed)
        for name, norm in (("in", lambda c: nn.InstanceNorm2d(c, affine=True)), ("bn", nn.BatchNorm2d)):
            torch.manual_seed(seed)
            model = cnn(norm)
            fit(model, data.x_train, data.y_train, epochs=4, batch_size=32, lr=0.05, seed=seed)
            for contrast in CONTRASTS:
                runs[name][contrast].append(accuracy(model, contrast * data.x_test, data.y_test))
    lost = {name: [by[1.0][i] - min(by[0.3][i], by[3.0][i]) for i in range(len(by[1.0]))] for name, by in runs.items()}
    return Outcome(
        status=verdict(max(lost["in"]) <= 2, min(lost["bn"]) >= 10),
        measured={f"{n}_at_{c}": mean_and_spread(v) for n, by in runs.items() for c, v in by.items()},
        setting=(
            "scikit-learn digits (500 held out), three-layer CNN, SGD 0.05 batch 32, 4 epochs at "
            "contrast 1; tested at 0.3, 1, 3"
        ),
        tolerance="IN loses at most 2 points at every contrast, BN 10 or more at the worse one, in every seed",
    )
