"""What the losses of this category share."""

from __future__ import annotations

from torch import Tensor

from zoo.numerics import classes, wide, without_autocast

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


def log_probabilities(logits: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """``log softmax`` in at least float32 and int64 classes, after a look at the shapes ``(N, K)`` and ``(N,)``."""
    if logits.ndim != 2 or target.ndim != 1 or logits.shape[0] != target.shape[0]:
        raise ValueError(
            f"{name} takes logits (N, K) and classes (N,), received {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    target = classes(target, name)
    with without_autocast(logits.device.type):
        return wide(logits).log_softmax(1), target
