"""Spatial pyramid pooling: better features than one average, and maps of other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.pooling._heads import head_scores, network
from zoo.claims.train import accuracy, fit


def beats_average_pooling(seeds: Sequence[int]) -> Outcome:
    """Accuracy with global average pooling and with a pyramid of 1, 2 and 4 bins a side."""
    scores, setting = head_scores(("gap", "spp"), seeds)
    gain = min(a - b for a, b in zip(scores["spp"], scores["gap"], strict=True))
    return Outcome(
        verdict(gain > 0),
        {f"{name}_accuracy": mean_and_spread(v) for name, v in scores.items()} | {"smallest_gain": round(gain, 2)},
        setting + " (170 parameters after the average, 3,370 after the pyramid)",
        "the pyramid above global average pooling for every seed",
    )


def other_sizes(seeds: Sequence[int]) -> Outcome:
    """A network trained on 8 x 8 images reads images of 10 x 10 and 12 x 12 without change."""
    data = digits()
    sizes = (8, 10, 12)
    scores: dict[int, list[float]] = {s: [] for s in sizes}
    for seed in seeds:
        torch.manual_seed(seed)
        net = network("spp")
        adam = torch.optim.Adam(net.parameters(), lr=1e-2)
        fit(net, data.x_train, data.y_train, epochs=8, batch_size=32, optimizer=adam, seed=seed)
        for s in sizes:
            resized = F.interpolate(data.x_test, (s, s), mode="bilinear", align_corners=False)
            scores[s].append(accuracy(net, resized, data.y_test))
    drops = {s: max(a - b for a, b in zip(scores[8], scores[s], strict=True)) for s in sizes[1:]}
    return Outcome(
        verdict(drops[10] <= 10, drops[12] <= 10),
        {f"accuracy_{s}": mean_and_spread(v) for s, v in scores.items()}
        | {"largest_drop": {str(s): round(d, 2) for s, d in drops.items()}},
        "digits, two 3 x 3 convolutions, pyramid of 1, 2, 4 bins, trained at 8 x 8; test images resized bilinearly",
        "accuracy at 10 x 10, and at 12 x 12, within 10 points of that at 8 x 8 for every seed",
    )
