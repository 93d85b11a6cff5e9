"""Claim of Distance Metric Learning for Large Margin Nearest Neighbor Classification."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.metric_learning._distances import recall_at
from zoo.metric_learning.lmnn import LMNN

TRAIN, STEPS = 400, 60


def beats_euclidean(seeds: Sequence[int]) -> Outcome:
    """A learned linear map lowers the error of the nearest neighbour against plain pixels."""
    pixels, learned = [], []
    for seed in seeds:
        data = digits(seed=seed)
        x, y, test = data.x_train[:TRAIN].flatten(1), data.y_train[:TRAIN], data.x_test.flatten(1)
        linear = torch.eye(64, requires_grad=True)
        optimizer = torch.optim.Adam([linear], lr=5e-3)
        loss = LMNN()
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss(x @ linear, y, inputs=x).backward()
            optimizer.step()
        pixels.append(100 - recall_at(test, data.y_test, x, y))
        learned.append(100 - recall_at(test @ linear, data.y_test, x @ linear, y))
    return Outcome(
        status=verdict(sum(learned) < sum(pixels)),
        measured={"nearest neighbour error %, pixels": mean_and_spread(pixels), "LMNN": mean_and_spread(learned)},
        setting=f"{TRAIN} digits for training, 500 for test, a split a seed, linear map 64 -> 64, {STEPS} Adam steps",
        tolerance="mean error below that of pixels",
    )
