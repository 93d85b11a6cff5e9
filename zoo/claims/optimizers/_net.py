"""The small network and the full-batch gradient that the optimizer claims share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims.data import digits


def mlp(seed: int, width: int = 128) -> nn.Sequential:
    """64 - width - width - 10 with ReLU for the 8 x 8 digits, weights drawn by ``seed``."""
    torch.manual_seed(seed)
    layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def backward(model: nn.Module, x: Tensor, y: Tensor, scale: float = 1.0) -> float:
    """Fresh gradients of ``scale * cross_entropy`` in ``p.grad``; returns the unscaled loss."""
    model.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y)
    (scale * loss).backward()
    return float(loss.detach())


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


def path_end(optimizer_of, seed: int, scales: list[float]) -> tuple[Tensor, Tensor, nn.Module]:  # type: ignore[no-untyped-def]
    """``(start, end, model)`` after full-batch steps on digits whose gradients are multiplied by ``scales``."""
    data = digits()
    model = mlp(seed)
    start = weights(model)
    optimizer = optimizer_of(model.parameters())
    for scale in scales:
        backward(model, data.x_train, data.y_train, scale)
        optimizer.step()
    return start, weights(model), model
