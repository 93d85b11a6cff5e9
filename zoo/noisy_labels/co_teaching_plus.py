"""Co-teaching+: exchange small-loss samples where the networks disagree (Yu et al., arXiv 1901.04215)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.co_teaching import CoTeaching, keep_rate
from zoo.numerics import wide


def smallest_among(losses: Tensor, eligible: Tensor, rate: float) -> Tensor:
    """Weights ``(N,)`` of sum 1 on the ``ceil(rate * n)`` smallest of n eligible losses; all 0 if n = 0."""
    losses = losses.detach()
    rank = losses.masked_fill(~eligible, torch.inf).argsort(stable=True).argsort(stable=True)
    keep = (rate * eligible.sum()).ceil()
    chosen = eligible & (rank < keep)
    return chosen.to(losses.dtype) / chosen.sum().clamp_min(1)


class CoTeachingPlus(CoTeaching):
    r"""Co-teaching restricted to :math:`D' = \{i : \arg\max f(x_i) \ne \arg\max g(x_i)\}` after a warm-up.

    During the warm-up both networks train on the whole batch. Where they agree on everything, the batch gives no
    gradient. The remaining arguments are those of :class:`~zoo.noisy_labels.co_teaching.CoTeaching`.

    Args:
        model: the first network.
        peer_model: the second; a copy with parameters drawn anew if None.
        forget_rate: noise rate or an estimate.
        warmup: epochs of plain cross-entropy.
        ramp: epochs until the full share is dropped.
        exponent: of the ramp.
        num_samples: size of the training set, for :meth:`suspects`.

    ``forward(input, target, epoch, index=None)``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"epoch"})

    def __init__(
        self,
        model: nn.Module,
        peer_model: nn.Module | None = None,
        forget_rate: float = 0.2,
        warmup: float = 20.0,
        ramp: float = 10.0,
        exponent: float = 1.0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(model, peer_model, forget_rate, ramp, exponent, num_samples)
        self.warmup = warmup

    def forward(
        self, input: Tensor, target: Tensor, epoch: float | None = None, index: Tensor | None = None, **extra: Any
    ) -> dict[str, Tensor]:
        epoch = self.extra("epoch", epoch)
        logits = self.both(input)
        first, second = (F.cross_entropy(wide(z), target, reduction="none") for z in logits)
        self.remember(index, -(first + second) / 2)
        if epoch < self.warmup:
            return {"loss": first.mean() + second.mean(), "output": logits[0]}
        disagree = logits[0].argmax(1) != logits[1].argmax(1)
        rate = keep_rate(epoch, self.forget_rate, self.ramp, self.exponent)
        loss = (smallest_among(second, disagree, rate) * first).sum()
        loss = loss + (smallest_among(first, disagree, rate) * second).sum()
        return {"loss": loss, "output": logits[0], "disagreement": disagree.float().mean()}
