"""Claims of Understanding and Improving Layer Normalization (arXiv 1911.07013)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.normalization.ada_norm import AdaNorm

WIDTH = 32
NORMS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "layer_norm": lambda: nn.LayerNorm(WIDTH),
    "layer_norm_simple": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "ada_norm": lambda: AdaNorm(WIDTH),
}


class _Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = norm(), norm()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.second(x))


class _Reader(nn.Module):
    """Rows of a digit as 8 tokens, two blocks, mean, classifier."""

    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.place = nn.Parameter(0.1 * torch.randn(8, WIDTH))
        self.blocks = nn.Sequential(_Block(norm), _Block(norm), norm())
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x[:, 0]) + self.place).mean(1))


def gain_and_bias_not_needed(seeds: Sequence[int]) -> Outcome:
    """Without gain and bias layer norm is no worse, and AdaNorm is no worse than layer norm."""
    runs: dict[str, list[float]] = {name: [] for name in NORMS}
    for seed in seeds:
        data = digits(seed=seed)
        for name, norm in NORMS.items():
            torch.manual_seed(seed)
            model = _Reader(norm)
            optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
            fit(model, data.x_train, data.y_train, epochs=6, batch_size=32, seed=seed, optimizer=optimizer)
            runs[name].append(accuracy(model, data.x_test, data.y_test))
    means = {name: sum(values) / len(values) for name, values in runs.items()}
    return Outcome(
        status=verdict(
            means["layer_norm_simple"] >= means["layer_norm"] - 0.5, means["ada_norm"] >= means["layer_norm"] - 0.5
        ),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=(
            "scikit-learn digits (500 held out) as 8 tokens of 8 numbers, two pre-norm transformer "
            "blocks of width 32, Adam 2e-3, 6 epochs"
        ),
        tolerance="mean accuracy of LayerNorm-simple, and of AdaNorm, at most 0.5 points below that of LayerNorm",
    )
