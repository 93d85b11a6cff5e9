"""Generalized cross-entropy, between CE and MAE by a Box-Cox transform (Zhang, Sabuncu, arXiv 1805.07836)."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.noisy_labels.base import Criterion


class GCE(Criterion):
    r""":math:`L_q = (1 - p_y^q) / q`, cross-entropy for :math:`q \to 0` and :math:`1 - p_y` for :math:`q = 1`.

    Args:
        q: in (0, 1] (paper: 0.7).
        k: truncation: samples with :math:`p_y \le k` cost the constant :math:`L_q(k)` and have no gradient
            (paper: 0.5, after a number of epochs; 0 switches it off, so set ``loss.k`` when the time comes).
        reduction: ``mean``, ``sum`` or ``none``.

    Computed as ``-expm1(q log p_y) / q``, exact for small ``q`` and finite for :math:`p_y \to 0`, where the power's
    slope is infinite.

    Raises:
        ValueError: ``q`` outside (0, 1] or ``k`` outside [0, 1).
    """

    def __init__(self, q: float = 0.7, k: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not 0 < q <= 1 or not 0 <= k < 1:
            raise ValueError(f"gce needs q in (0, 1] and k in [0, 1), received q={q}, k={k}")
        self.q, self.k = q, k

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = logits.log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
        losses = -torch.expm1(self.q * log_p) / self.q
        if self.k > 0:
            losses = torch.where(log_p.exp() > self.k, losses, (1 - self.k**self.q) / self.q)
        return losses

    def extra_repr(self) -> str:
        return f"q={self.q}, k={self.k}"
