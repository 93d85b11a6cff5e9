"""What the losses of this category share."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.numerics import without_autocast

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> str:
    """The name itself, or a ValueError that lists the allowed ones."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, received {reduction!r}")
    return reduction


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Mean, sum or nothing."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def log_probabilities(logits: Tensor, target: Tensor, name: str) -> Tensor:
    """``log softmax`` in at least float32, after a look at the shapes ``(N, K)`` and ``(N,)``."""
    if logits.ndim != 2 or target.ndim != 1 or logits.shape[0] != target.shape[0]:
        raise ValueError(
            f"{name} takes logits (N, K) and classes (N,), received {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if target.is_floating_point():
        raise TypeError(f"{name} takes integer classes, received {target.dtype}")
    with without_autocast(logits.device.type):
        return (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits).log_softmax(1)
