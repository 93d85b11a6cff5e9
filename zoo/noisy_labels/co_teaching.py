"""Co-teaching: two networks pick small-loss samples for each other (Han et al., arXiv 1804.06872)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm, Pair, fresh_copy
from zoo.numerics import wide


def keep_rate(epoch: float, forget_rate: float, ramp: float = 10.0, exponent: float = 1.0) -> float:
    r""":math:`R(t) = 1 - \tau \min(t^c / T_k, 1)`, the share of a batch that is trained on in epoch t."""
    return 1.0 - forget_rate * min(epoch**exponent / ramp, 1.0)


def smallest(losses: Tensor, keep: int) -> Tensor:
    """Weights ``(N,)`` of sum 1: equal on the ``keep`` smallest losses, 0 elsewhere. Detached."""
    chosen = losses.detach().argsort(stable=True)[:keep]
    return torch.zeros_like(losses.detach()).scatter_(0, chosen, 1.0 / keep)


class CoTeaching(Algorithm):
    r"""Each network descends on the mean loss of the samples that have the smallest loss *under the other one*.

    .. math:: L = \frac{1}{|\bar D_g|} \sum_{i \in \bar D_g} \ell_i(f) +
              \frac{1}{|\bar D_f|} \sum_{i \in \bar D_f} \ell_i(g), \qquad |\bar D| = R(t)\, N

    Both graphs are disjoint, so that one backward and one optimizer equal two of each (not under clipping of the
    *global* norm: clip per network).

    Args:
        model: the first network.
        peer_model: the second; a copy with parameters drawn anew if None.
        forget_rate: :math:`\tau`, the noise rate or an estimate of it.
        ramp: :math:`T_k` epochs until the full share is dropped (paper: 10).
        exponent: c (paper: 1).
        num_samples: size of the training set, for :meth:`suspects`.

    ``forward(input, target, epoch, index=None)``.

    Raises:
        ValueError: ``forget_rate`` outside [0, 1), ``ramp`` not positive, ``epoch`` missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"epoch"})

    def __init__(
        self,
        model: nn.Module,
        peer_model: nn.Module | None = None,
        forget_rate: float = 0.2,
        ramp: float = 10.0,
        exponent: float = 1.0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(model, num_samples)
        if not 0 <= forget_rate < 1 or ramp <= 0:
            raise ValueError(f"forget_rate lies in [0, 1) and ramp is positive, received {forget_rate} and {ramp}")
        self.trainable_module = Pair(model, fresh_copy(model) if peer_model is None else peer_model)
        self.forget_rate, self.ramp, self.exponent = forget_rate, ramp, exponent

    def both(self, input: Tensor) -> Tensor:
        """``(2, N, K)`` logits, whatever the mode."""
        output = self.trainable_module(input)
        return output if output.ndim == 3 else torch.stack([net(input) for net in self.trainable_module.nets])

    def count(self, n: int, epoch: float | None) -> int:
        rate = keep_rate(self.extra("epoch", epoch), self.forget_rate, self.ramp, self.exponent)
        return max(1, int(rate * n + 1e-9))

    def forward(
        self, input: Tensor, target: Tensor, epoch: float | None = None, index: Tensor | None = None, **extra: Any
    ) -> dict[str, Tensor]:
        keep = self.count(len(input), epoch)
        logits = self.both(input)
        first, second = (F.cross_entropy(wide(z), target, reduction="none") for z in logits)
        self.remember(index, -(first + second) / 2)
        loss = (smallest(second, keep) * first).sum() + (smallest(first, keep) * second).sum()
        return {"loss": loss, "output": logits[0]}
