"""mixup: train on convex combinations of two samples and of their labels (Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm


class Mixup(Algorithm):
    r"""One :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` a batch; partners by a random permutation.

    .. math:: \tilde x = \lambda x_i + (1 - \lambda) x_j, \qquad
              L = \lambda\, \ell(f(\tilde x), y_i) + (1 - \lambda)\, \ell(f(\tilde x), y_j)

    The loss is mixed instead of the label, so any criterion of integer labels will do; for cross-entropy it is
    the same.

    Args:
        model: ``(N, *) -> (N, K)``.
        alpha: :math:`\alpha` (paper: 0.2 for ImageNet, 1 for CIFAR; larger under label noise).
        criterion: ``criterion(logits, target) -> scalar``; cross-entropy by default.

    Evaluation mode trains on the plain batch. ``output`` holds the logits of the mixed inputs.

    Raises:
        ValueError: ``alpha`` not positive.
    """

    def __init__(self, model: nn.Module, alpha: float = 1.0, criterion: nn.Module | None = None) -> None:
        super().__init__(model)
        if alpha <= 0:
            raise ValueError(f"mixup needs alpha > 0, received {alpha}")
        self.alpha = alpha
        self.criterion = nn.CrossEntropyLoss() if criterion is None else criterion

    def draw(self, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """``(lam, partner)``: a scalar and a permutation of n."""
        alpha = torch.tensor(self.alpha, device=device)
        return torch.distributions.Beta(alpha, alpha).sample(), torch.randperm(n, device=device)

    def forward(self, input: Tensor, target: Tensor, **extra: Any) -> dict[str, Tensor]:
        if not self.training:
            output = self.trainable_module(input)
            return {"loss": self.criterion(output, target), "output": output}
        lam, partner = self.draw(len(input), input.device)
        # lerp keeps the dtype of the images and is exact at both ends
        output = self.trainable_module(torch.lerp(input[partner], input, lam.to(input.dtype)))
        lam = lam.to(torch.promote_types(output.dtype, torch.float32))
        loss = lam * self.criterion(output, target) + (1 - lam) * self.criterion(output, target[partner])
        return {"loss": loss, "output": output, "lam": lam}
