"""The plain training loop that small claims share: SGD or any optimizer, fixed batches, seeded order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index batches of a fresh permutation; the last incomplete batch is dropped."""
    order = torch.randperm(n, generator=generator)
    yield from order[: n // size * size].split(size)


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 0.1,
    momentum: float = 0.9,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    after_step: Callable[[], None] | None = None,
) -> list[float]:
    """Train in place and return the mean loss of each epoch.

    ``optimizer`` defaults to SGD with ``lr`` and ``momentum``; ``after_step`` runs after every step.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    history = []
    model.train()
    for _ in range(epochs):
        total, steps = 0.0, 0
        for index in batches(len(x), batch_size, generator):
            value = loss(model(x[index]), y[index])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if after_step is not None:
                after_step()
            total, steps = total + float(value.detach()), steps + 1
        history.append(total / max(steps, 1))
    return history


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 500) -> float:
    """Share of right answers in percent, in eval mode; the mode is put back."""
    training = model.training
    model.eval()
    right = sum(
        int((model(xb).argmax(1) == yb).sum()) for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True)
    )
    model.train(training)
    return 100.0 * right / len(x)
