"""Mean absolute error of the softmax: a symmetric loss (Ghosh, Kumar, Sastry, arXiv 1712.09482)."""

from __future__ import annotations

from torch import Tensor

from zoo.noisy_labels.base import Criterion


class MAELoss(Criterion):
    r"""MAE between softmax and one-hot label.

    .. math:: L = \|p - e_y\|_1 = 2 (1 - p_y), \qquad \sum_{k=1}^K L(p, k) = 2K - 2

    The sum over all labels does not depend on ``p`` (symmetry), which is what makes the minimiser noise-tolerant.

    Args:
        reduction: ``mean``, ``sum`` or ``none``.

    The gradient :math:`2 p_y (p_j - [j = y])` vanishes at :math:`p_y \to 0` too: with many classes it underfits.
    """

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return 2.0 * (1.0 - logits.softmax(1).gather(1, target.unsqueeze(1)).squeeze(1))
