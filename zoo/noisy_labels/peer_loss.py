"""Peer loss: subtract the loss of an independent prediction and label (Liu, Guo, arXiv 1910.03231)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm
from zoo.numerics import wide


class PeerLoss(Algorithm):
    r""":math:`L = \ell(f(x_n), y_n) - \alpha\, \ell(f(x_{n_1}), y_{n_2})` with ``n_1``, ``n_2`` drawn independently.

    The second term punishes agreement with the labels' marginal, so that learning needs no noise rate.

    Args:
        model: ``(N, *) -> (N, K)``.
        alpha: weight of the peer term; unbounded below, so ramp it up.
        warmup: epochs over which ``alpha`` grows linearly from 0 (needs ``epoch`` if positive).
        num_samples: size of the training set, for :meth:`suspects`.

    ``forward(input, target, peer, epoch=None, index=None)``: ``peer`` is ``(inputs, labels)`` whose rows belong to
    different samples. Both passes go through the network in one call, so that BatchNorm sees one batch.

    Raises:
        ValueError: negative ``alpha`` or ``warmup``; ``peer`` (or ``epoch`` with a warm-up) missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"peer", "epoch"})

    def __init__(
        self, model: nn.Module, alpha: float = 0.3, warmup: float = 5.0, num_samples: int | None = None
    ) -> None:
        super().__init__(model, num_samples)
        if alpha < 0 or warmup < 0:
            raise ValueError(f"peer_loss needs alpha, warmup >= 0, received {alpha} and {warmup}")
        self.alpha, self.warmup = alpha, warmup

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        peer: tuple[Tensor, Tensor] | None = None,
        epoch: float | None = None,
        index: Tensor | None = None,
        **extra: Any,
    ) -> dict[str, Tensor]:
        other, label = self.extra("peer", peer)
        share = min(1.0, self.extra("epoch", epoch) / self.warmup) if self.warmup > 0 else 1.0
        both = self.trainable_module(torch.cat([input, other]))
        output, independent = both[: len(input)], both[len(input) :]
        losses = F.cross_entropy(wide(output), target, reduction="none")
        self.remember(index, -losses)
        peer_term = F.cross_entropy(wide(independent), label)
        return {"loss": losses.mean() - self.alpha * share * peer_term, "output": output, "peer": peer_term.detach()}
