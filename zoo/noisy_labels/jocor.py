"""JoCoR: two networks, one joint loss with agreement (Wei et al., arXiv 2003.02752)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.co_teaching import CoTeaching, smallest
from zoo.numerics import wide


class JoCoR(CoTeaching):
    r"""Both networks descend together on the samples of smallest joint loss.

    .. math:: \ell_i = (1 - \lambda)\left(\mathrm{CE}(f) + \mathrm{CE}(g)\right) +
              \lambda \left(\mathrm{KL}(p_f \| p_g) + \mathrm{KL}(p_g \| p_f)\right)

    Nothing is detached: each network is pulled towards the other.

    Args:
        model: the first network.
        peer_model: the second; a copy with parameters drawn anew if None.
        forget_rate: noise rate or an estimate (half of it for asymmetric noise, as the paper does).
        lam: :math:`\lambda` in [0, 1] (paper: 0.9 for CIFAR-10 up to rate 0.5, 0.65 at 0.8; 0.85 for CIFAR-100).
        ramp: epochs until the full share is dropped.
        exponent: of the ramp.
        num_samples: size of the training set, for :meth:`suspects`.

    ``forward(input, target, epoch, index=None)``.

    Raises:
        ValueError: ``lam`` outside [0, 1], and what co-teaching refuses.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"epoch"})

    def __init__(
        self,
        model: nn.Module,
        peer_model: nn.Module | None = None,
        forget_rate: float = 0.2,
        lam: float = 0.9,
        ramp: float = 10.0,
        exponent: float = 1.0,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(model, peer_model, forget_rate, ramp, exponent, num_samples)
        if not 0 <= lam <= 1:
            raise ValueError(f"lam lies in [0, 1], received {lam}")
        self.lam = lam

    def forward(
        self, input: Tensor, target: Tensor, epoch: float | None = None, index: Tensor | None = None, **extra: Any
    ) -> dict[str, Tensor]:
        keep = self.count(len(input), epoch)
        logits = self.both(input)
        f, g = (wide(z).log_softmax(1) for z in logits)
        supervised = F.nll_loss(f, target, reduction="none") + F.nll_loss(g, target, reduction="none")
        # KL(f||g) + KL(g||f) in one sum
        agreement = ((f.exp() - g.exp()) * (f - g)).sum(1)
        losses = (1 - self.lam) * supervised + self.lam * agreement
        self.remember(index, -losses)
        return {"loss": (smallest(losses, keep) * losses).sum(), "output": logits[0]}
