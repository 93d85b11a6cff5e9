"""Loss correction by a transition matrix, and its estimation (Patrini et al., arXiv 1609.03683)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.noisy_labels.base import Criterion


def estimate_transition(probabilities: Tensor, quantile: float = 1.0) -> Tensor:
    r"""T from the noisy-label posteriors of a network trained without correction.

    .. math:: \bar x^i = \arg\max_x \hat p(\tilde y = i \mid x), \qquad \hat T_{ij} = \hat p(\tilde y = j \mid \bar x^i)

    Args:
        probabilities: ``(N, K)`` softmax outputs, rows of sum 1; best on samples not trained on.
        quantile: take the sample at this quantile of class i's probability instead of the maximum, against outliers.

    Returns:
        ``(K, K)``, rows of sum 1; row i is the true class.

    Raises:
        ValueError: another shape, fewer samples than one, quantile outside (0, 1].
    """
    if probabilities.ndim != 2 or not len(probabilities) or not 0 < quantile <= 1:
        raise ValueError(
            "estimate_transition takes (N, K) and a quantile in (0, 1], "
            f"received {tuple(probabilities.shape)} and {quantile}"
        )
    position = min(len(probabilities) - 1, max(0, round(quantile * len(probabilities)) - 1))
    anchor = probabilities.argsort(0)[position]
    matrix = probabilities[anchor]
    return matrix / matrix.sum(1, keepdim=True)


def _checked(T: Tensor | Sequence[Sequence[float]]) -> Tensor:
    matrix = torch.as_tensor(T, dtype=torch.float64, device="cpu")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"T is (K, K), received {tuple(matrix.shape)}")
    if bool((matrix < 0).any()) or not torch.allclose(
        matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64), atol=1e-4
    ):
        raise ValueError("T holds P(given = j | true = i): no negative entry, rows of sum 1 (is it transposed?)")
    return matrix


class ForwardCorrection(Criterion):
    r""":math:`L = -\log (T^\top p)_y`: the network predicts the true class, T carries it to the given one.

    Args:
        T: ``(K, K)``, :math:`T_{ij} = P(\tilde y = j \mid y = i)`; kept as a buffer.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: T is not square and row-stochastic.
    """

    log_T: Tensor

    def __init__(self, T: Tensor | Sequence[Sequence[float]], reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("log_T", _checked(T).log())

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        # log-space keeps it finite where p underflows; impossible transitions are -inf and drop out of the sum
        return -(logits.log_softmax(1) + self.log_T.to(logits.dtype).T.index_select(0, target)).logsumexp(1)


class BackwardCorrection(Criterion):
    r""":math:`L = (T^{-1} \ell)_y` with :math:`\ell_k = -\log p_k`: unbiased for the clean loss; it can be negative.

    Args:
        T: ``(K, K)``, as in :class:`ForwardCorrection`.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: T is not square and row-stochastic, or is singular (uniform noise at rate (K - 1) / K is).
    """

    inverse: Tensor

    def __init__(self, T: Tensor | Sequence[Sequence[float]], reduction: str = "mean") -> None:
        super().__init__(reduction)
        matrix = _checked(T)
        if not bool(torch.linalg.cond(matrix) < 1e8):
            raise ValueError("T is singular: the labels say nothing about some class, and no inverse exists")
        self.register_buffer("inverse", torch.linalg.inv(matrix))

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        return (self.inverse.to(logits.dtype).index_select(0, target) * -logits.log_softmax(1)).sum(1)
