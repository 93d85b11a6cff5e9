"""Symmetric cross-entropy: CE plus reverse CE (Wang et al., arXiv 1908.06112)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from zoo.noisy_labels.base import Criterion


class SCE(Criterion):
    r""":math:`L = \alpha\,\mathrm{CE} + \beta\,\mathrm{RCE}` with :math:`\mathrm{RCE} = -\sum_k p_k \log q_k`.

    The one-hot :math:`q` has :math:`\log 0 := A`, so :math:`\mathrm{RCE} = -A (1 - p_y)`: half of MAE times -A.

    Args:
        alpha: weight of CE (paper: 0.1 for CIFAR-10, 6 for CIFAR-100).
        beta: weight of RCE (1; the code of later papers uses 0.1 for CIFAR-100).
        A: stands for log 0; negative. The authors' code clips at 1e-4, which is log(1e-4) = -9.21, the default here.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: negative weights or ``A >= 0``.
    """

    def __init__(
        self, alpha: float = 0.1, beta: float = 1.0, A: float = math.log(1e-4), reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        if alpha < 0 or beta < 0 or A >= 0:
            raise ValueError(f"sce needs alpha, beta >= 0 and A < 0, received {alpha}, {beta} and {A}")
        self.alpha, self.beta, self.A = alpha, beta, A

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        # -100 is no class here: torch would give it a loss of zero
        nll = F.cross_entropy(logits, target, reduction="none", ignore_index=-(2**31))
        return self.alpha * nll - self.beta * self.A * -(-nll).expm1()

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, A={self.A:.4g}"
