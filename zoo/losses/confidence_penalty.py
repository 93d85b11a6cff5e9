"""Confidence penalty: subtract the entropy of the prediction (Pereyra et al., arXiv 1701.06548)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.losses.base import check_reduction, log_probabilities, reduce


class ConfidencePenalty(nn.Module):
    r""":math:`L = -\log p_y - \beta H(p)`, or with a threshold :math:`-\log p_y + \beta \max(0, \Gamma - H(p))`.

    Args:
        beta: strength at the end of the ramp.
        threshold: :math:`\Gamma` in nats: only predictions of less entropy are penalised. None penalises all.
        ramp: number of steps over which :meth:`step` raises the strength linearly from 0 (annealing); 0 starts in full.
        reduction: ``mean``, ``sum`` or ``none``.

    Without a threshold it equals :math:`\mathrm{CE} + \beta\,\mathrm{KL}(p \| u)` up to the constant
    :math:`\beta \log K`.

    Raises:
        ValueError: negative ``beta``, ``threshold`` or ``ramp``.
    """

    done: Tensor

    def __init__(
        self, beta: float = 0.1, threshold: float | None = None, ramp: int = 0, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if beta < 0 or ramp < 0 or (threshold is not None and threshold < 0):
            raise ValueError(f"beta, threshold and ramp are not negative, received {beta}, {threshold}, {ramp}")
        self.beta, self.threshold, self.ramp, self.reduction = beta, threshold, ramp, check_reduction(reduction)
        self.register_buffer("done", torch.zeros((), dtype=torch.float32))

    @torch.no_grad()
    def step(self) -> None:
        """One step of the ramp; call it after the optimizer's."""
        self.done += 1

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p, target = log_probabilities(logits, target, "ConfidencePenalty")
        p = log_p.exp()
        entropy = -(p * log_p.masked_fill(p == 0, 0.0)).sum(1)  # p log p -> 0 where log p is -inf
        penalty = -entropy if self.threshold is None else (self.threshold - entropy).clamp_min(0)
        beta = self.beta * (self.done / self.ramp).clamp(max=1.0) if self.ramp else self.beta
        nll = -log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        return reduce(nll + beta * penalty, self.reduction)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}, ramp={self.ramp}"
