"""Claims of Positional Normalization (arXiv 1907.04312)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.normalization.positional_norm import MomentShortcut, PositionalNorm


class _AutoEncoder(nn.Module):
    """8 x 8 to 2 x 2 and back; PONO after the encoder's convolutions, the shortcut before the decoder's if wanted."""

    def __init__(self, shortcut: bool, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)])
        self.up = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)])
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(4 * width, 4), nn.Linear(4, 4 * width))
        self.last = nn.Conv2d(width, 1, 3, 1, 1)
        self.pono, self.width = PositionalNorm(width, return_moments=True), width
        self.shortcut = MomentShortcut() if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        moments = []
        for conv in self.down:
            x, mean, std = self.pono(conv(x))
            moments.append((mean, std))
            x = F.relu(x)
        x = self.neck(x).view(-1, self.width, 2, 2)
        for conv, (mean, std) in zip(self.up, reversed(moments), strict=True):
            if self.shortcut is not None:
                x = self.shortcut(x, mean, std)
            x = F.relu(conv(F.interpolate(x, scale_factor=2)))
        return self.last(x)


def moments_carry_structure(seeds: Sequence[int]) -> Outcome:
    """Re-injected moments tell the decoder what the bottleneck lost: the reconstruction is better."""
    runs: dict[str, list[float]] = {"with": [], "without": []}
    for seed in seeds:
        data = digits(seed=seed)
        for name, values in runs.items():
            torch.manual_seed(seed)
            model = _AutoEncoder(name == "with")
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            generator = torch.Generator().manual_seed(seed)
            for _ in range(8):
                for index in torch.randperm(len(data.x_train), generator=generator).split(64):
                    loss = F.mse_loss(model(data.x_train[index]), data.x_train[index])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            with torch.no_grad():
                values.append(float(F.mse_loss(model(data.x_test), data.x_test)))
    ratios = [a / b for a, b in zip(runs["with"], runs["without"], strict=True)]
    return Outcome(
        status=verdict(max(ratios) < 1, sum(ratios) / len(ratios) <= 0.8),
        measured={
            "mse_with_shortcut": mean_and_spread(runs["with"]),
            "mse_without": mean_and_spread(runs["without"]),
            "ratio": mean_and_spread(ratios),
        },
        setting=(
            "scikit-learn digits, convolutional autoencoder with a bottleneck of 4 numbers, Adam 3e-3, 8 "
            "epochs; held-out squared error"
        ),
        tolerance="lower error with the moment shortcut in every seed, and by a fifth or more on average",
    )
