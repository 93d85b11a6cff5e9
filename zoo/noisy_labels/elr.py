"""Early-learning regularisation: hold on to what the network predicted early (Liu et al., arXiv 2007.00151)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm
from zoo.numerics import wide


class ELR(Algorithm):
    r"""Cross-entropy plus :math:`\lambda \log(1 - \langle t_i, p_i \rangle)`, t a running average of predictions.

    .. math:: t_i \leftarrow \beta t_i + (1 - \beta)\, \tilde p_i / \textstyle\sum_k \tilde p_{ik}, \qquad
              L = \frac1N \sum_i \left( -\log p_{i, y_i} + \lambda \log(1 - \langle t_i, \tilde p_i \rangle) \right)

    with :math:`\tilde p` the softmax clamped to [1e-4, 1 - 1e-4]. ``t`` is detached, updated before it is used, and a
    buffer: it moves, is saved and is loaded with the module.

    Args:
        model: ``(N, *) -> (N, K)``.
        num_samples: size of the training set.
        num_classes: K.
        beta: momentum of the targets (paper: 0.7 for CIFAR-10 with symmetric noise).
        lam: :math:`\lambda` (paper: 3 for CIFAR-10, 7 for CIFAR-100).

    ``forward(input, target, index)``. The loss can be negative.

    Raises:
        ValueError: ``beta`` outside [0, 1), negative ``lam``, ``index`` missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"index"})
    targets: Tensor

    def __init__(
        self, model: nn.Module, num_samples: int, num_classes: int, beta: float = 0.7, lam: float = 3.0
    ) -> None:
        super().__init__(model, num_samples)
        if not 0 <= beta < 1 or lam < 0 or num_classes < 2:
            raise ValueError(f"elr needs 0 <= beta < 1, lam >= 0, two classes; received {beta}, {lam}, {num_classes}")
        self.beta, self.lam = beta, lam
        self.register_buffer("targets", torch.zeros(num_samples, num_classes))

    def forward(self, input: Tensor, target: Tensor, index: Tensor | None = None, **extra: Any) -> dict[str, Tensor]:
        index = self.extra("index", index)
        output = self.trainable_module(input)
        logits = wide(output)
        if logits.shape[1] != self.targets.shape[1]:
            raise ValueError(
                f"ELR keeps targets of {self.targets.shape[1]} classes, the network gives {logits.shape[1]}"
            )
        p = logits.softmax(1).clamp(1e-4, 1 - 1e-4)
        with torch.no_grad():
            t = self.beta * self.targets[index] + ((1 - self.beta) * p / p.sum(1, keepdim=True)).to(self.targets.dtype)
            self.targets[index] = t
            self.remember(index, t.gather(1, target.unsqueeze(1)).squeeze(1), momentum=0.0)
        regulariser = torch.log1p(-(t.to(p.dtype) * p).sum(1)).mean()
        ce = F.cross_entropy(logits, target)
        return {"loss": ce + self.lam * regulariser, "output": output, "regulariser": regulariser.detach()}
