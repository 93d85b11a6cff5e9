"""Normalised active plus passive loss (Ma et al., arXiv 2006.13554)."""

from __future__ import annotations

import math

from torch import Tensor

from zoo.noisy_labels.base import Criterion

PASSIVE = ("rce", "mae")


class ActivePassiveLoss(Criterion):
    r"""APL: :math:`\alpha\,\mathrm{NCE} + \beta\,\mathrm{RCE}` (or MAE), each robust, together able to fit.

    .. math:: \mathrm{NCE} = \frac{\log p_y}{\sum_k \log p_k}, \qquad \mathrm{RCE} = -A (1 - p_y), \qquad
              \mathrm{MAE} = 1 - p_y

    Args:
        alpha: weight of the active term (paper: 1 for CIFAR-10, 10 for CIFAR-100).
        beta: weight of the passive term (paper: 1 for CIFAR-10; CIFAR-100 0.1 with RCE, 1 with MAE).
        passive: ``rce`` or ``mae``.
        A: stands for log 0 in RCE (the authors' code: log 1e-4).
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: negative weights, ``A >= 0``, another passive loss.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        passive: str = "rce",
        A: float = math.log(1e-4),
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if alpha < 0 or beta < 0 or A >= 0:
            raise ValueError(f"active_passive_loss needs alpha, beta >= 0, A < 0, received {alpha}, {beta}, {A}")
        if passive not in PASSIVE:
            raise ValueError(f"passive is one of {', '.join(PASSIVE)}, received {passive!r}")
        self.alpha, self.beta, self.passive, self.A = alpha, beta, passive, A

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        own = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        wrong = -own.expm1()  # 1 - p_y without cancellation
        passive = wrong if self.passive == "mae" else -self.A * wrong
        return self.alpha * own / log_p.sum(1) + self.beta * passive

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, passive={self.passive}"
