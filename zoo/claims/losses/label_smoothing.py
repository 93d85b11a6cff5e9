"""Claims about label smoothing (arXiv 1512.00567, 1701.06548), on digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import fit


def less_confident(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Largest minus mean logit and largest probability on held-out digits, with and without smoothing."""
    gap: dict[float, list[float]] = {0.0: [], 0.1: []}
    top: dict[float, list[float]] = {0.0: [], 0.1: []}
    for seed in seeds:
        data = digits(seed=seed)
        for eps in gap:
            model = p.mlp(seed)
            fit(model, data.x_train, data.y_train, epochs=30, seed=seed, loss=nn.CrossEntropyLoss(label_smoothing=eps))
            with torch.no_grad():
                z = model(data.x_test)
            gap[eps].append(float((z.max(1).values - z.mean(1)).mean()))
            top[eps].append(float(z.softmax(1).max(1).values.mean()))
    measured = {f"eps_{e}": {"logit_gap": mean_and_spread(gap[e]), "confidence": mean_and_spread(top[e])} for e in gap}
    holds = [all(b < a for a, b in zip(v[0.0], v[0.1], strict=True)) for v in (gap, top)]
    return Outcome(
        verdict(*holds),
        measured,
        "digits, MLP 64-256-256-10, SGD lr 0.1, momentum 0.9, batch 64, 30 epochs, eps 0.1 against 0",
        "smaller logit gap and smaller mean confidence with smoothing, in every seed",
    )


def stops_memorisation(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Does it keep the network from learning wrong labels by heart?"""
    return p.resists(p.criterion(lambda: nn.CrossEntropyLoss(label_smoothing=0.1)), seeds)
