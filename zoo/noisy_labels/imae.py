"""IMAE: MAE's direction, with weights spread by an exponential (Wang et al., arXiv 1903.12141)."""

from __future__ import annotations

from zoo.noisy_labels.derivative_manipulation import DerivativeManipulation


class IMAE(DerivativeManipulation):
    r"""The gradient of MAE rescaled so that its L1 norm is :math:`w = \exp(T p_y (1 - p_y))`.

    This is derivative manipulation with :math:`\beta = T` and :math:`\lambda = 1`; the gradient, the value and their
    behaviour at extreme logits are described there.

    Args:
        T: spread of the weights (paper: 8; 2 appears for CIFAR-100 in the authors' example folder).
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: ``T`` is not finite.
    """

    def __init__(self, T: float = 8.0, reduction: str = "mean") -> None:
        super().__init__(beta=T, lam=1.0, reduction=reduction)
