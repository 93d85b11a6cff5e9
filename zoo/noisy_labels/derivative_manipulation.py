"""Derivative Manipulation: choose the gradient's size per sample, not the loss (Wang et al., arXiv 1905.11233)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.noisy_labels.base import Criterion

_REACH = 40.0  # beyond this margin sigmoid is 0 or 1 to float64's relative precision times exp(beta)
_X, _V = np.polynomial.legendre.leggauss(48)
_NODES, _WEIGHTS = ((_X + 1) / 2).tolist(), (_V / 2).tolist()  # Gauss-Legendre on [0, 1]


def _power(p: Tensor, lam: float) -> Tensor:
    """``p ** lam``; the exponents of the paper without a general power, which costs as much as the softmax."""
    if lam == 1:
        return p
    return p.sqrt() if lam == 0.5 else p.square() if lam == 2 else p.pow(lam)


def emphasis(margin: Tensor, beta: float, lam: float) -> Tensor:
    r"""The weight :math:`w = \exp(\beta p^\lambda (1 - p))` at :math:`p = \sigma(-m)`, from the margin ``m``.

    Both probabilities come from the margin, so that neither is a difference of nearly equal numbers.
    """
    return torch.exp(beta * _power(torch.sigmoid(-margin), lam) * torch.sigmoid(margin))


def _parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """``p_j / (1 - p_y)``, ``(N, K)`` with 0 at the label, and the margin ``logsumexp of the others - z_y``, ``(N,)``."""
    column = target.unsqueeze(1)
    masked = logits.scatter(1, column, -torch.inf)
    share = masked.softmax(1)
    # The largest share is at least 1 / (K - 1), so that its logarithm is exact to rounding.
    return share, (masked.amax(1) - share.amax(1).log()) - logits.gather(1, column).squeeze(1)


def _value(margin: Tensor, beta: float, lam: float) -> Tensor:
    """Half the integral of the weight from margin 0, by quadrature in the middle and its limits in the tails."""
    inside = margin.clamp(-_REACH, _REACH)
    nodes, weights = (torch.tensor(v, dtype=margin.dtype, device=margin.device) for v in (_NODES, _WEIGHTS))
    # Squared nodes: the weight varies near margin 0 and is flat far from it.
    steep = emphasis(inside.unsqueeze(1) * nodes**2, beta, lam) @ (weights * 2 * nodes)
    limit = math.exp(beta) if lam == 0 else 1.0  # w at p -> 0; it is 1 at p -> 1
    tail = (margin - _REACH).clamp_min(0) * limit + (margin + _REACH).clamp_max(0)
    return 0.5 * (inside * steep + tail)


class _Manipulated(torch.autograd.Function):
    """Value and gradient in closed form, with as many passes over ``(N, K)`` as cross-entropy and two more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, target: Tensor, beta: float, lam: float) -> tuple[Tensor, Tensor, Tensor]:
        share, margin = _parts(logits, target)
        return _value(margin, beta, lam), share, emphasis(margin, beta, lam)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, target, ctx.beta, ctx.lam = inputs
        _, share, weight = output
        ctx.mark_non_differentiable(share, weight)
        ctx.save_for_backward(logits, target, share, weight)
        ctx.save_for_forward(logits, target, share, weight)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *unused: Any) -> tuple[Tensor, None, None]:
        _, target, share, weight = ctx.saved_tensors
        others = (share * tangent).sum(1)
        return 0.5 * weight * (others - tangent.gather(1, target.unsqueeze(1)).squeeze(1)), None, None

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *unused: Any) -> tuple[Tensor, None, None, None]:
        logits, target, share, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: let autograd see how share and weight arose
            share, margin = _parts(logits, target)
            weight = emphasis(margin, ctx.beta, ctx.lam)
        pull = 0.5 * (grad * weight).unsqueeze(1)
        return (share * pull).scatter_(1, target.unsqueeze(1), -pull), None, None, None


def derivative_manipulation(logits: Tensor, target: Tensor, beta: float = 8.0, lam: float = 0.5) -> Tensor:
    r"""Loss per sample whose gradient has the L1 norm :math:`w = \exp(\beta p_y^\lambda (1 - p_y))`.

    .. math:: \frac{\partial L}{\partial z_y} = -\frac w2, \qquad
              \frac{\partial L}{\partial z_j} = \frac w2 \, \frac{p_j}{1 - p_y} \quad (j \ne y)

    It is the gradient of :math:`L = \frac12 \int_0^m w(\sigma(-t))\,dt` with the margin
    :math:`m = \log\sum_{j\ne y} e^{z_j} - z_y = \log\frac{1 - p_y}{p_y}`. The value is 0 at :math:`p_y = \frac12` and
    falls without bound as :math:`p_y \to 1`, because :math:`w \to 1` there. Everything is computed from ``m``: no
    division by :math:`1 - p_y`, no overflow at any finite logits.

    Args:
        logits: ``(N, K)``.
        target: ``(N,)`` int64.
        beta: spread of the emphasis; may be negative.
        lam: the emphasis peaks at :math:`p = \lambda / (\lambda + 1)`.

    Returns:
        ``(N,)``.
    """
    if torch.compiler.is_compiling():  # dynamo takes no Function with forward mode; the compiler fuses this form
        column = target.unsqueeze(1)
        others = logits.scatter(1, column, -torch.inf).logsumexp(1)
        margin = others - logits.gather(1, column).squeeze(1)
        fixed = margin.detach()
        return _value(fixed, beta, lam) + 0.5 * emphasis(fixed, beta, lam) * (margin - fixed)
    return _Manipulated.apply(logits, target, beta, lam)[0]


class DerivativeManipulation(Criterion):
    r"""DM (first named Gradient Rescaling), see :func:`derivative_manipulation`.

    Args:
        beta: :math:`\beta` (paper: 8 with ``lam`` 0.5 on CIFAR-100 with 40 % symmetric noise).
        lam: :math:`\lambda \ge 0`.
        normalize: divide by :math:`\int_0^1 w\,dp`, the paper's derivative normalisation: a constant that
            rescales the learning rate.
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: a negative ``lam``, a ``beta`` that is not finite.
    """

    def __init__(self, beta: float = 8.0, lam: float = 0.5, normalize: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if lam < 0 or not math.isfinite(lam) or not math.isfinite(beta):
            raise ValueError(f"derivative manipulation needs finite beta and lam >= 0, received {beta} and {lam}")
        self.beta, self.lam, self.normalize = float(beta), float(lam), normalize
        # p = u^2 takes the infinite slope of p^lam at 0 away.
        rule = zip(_NODES, _WEIGHTS, strict=True)
        area = sum(2 * u * v * math.exp(beta * u ** (2 * lam) * (1 - u * u)) for u, v in rule)
        self.scale = 1.0 / area if normalize else 1.0

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        losses = derivative_manipulation(logits, target, self.beta, self.lam)
        return losses * self.scale if self.normalize else losses

    def extra_repr(self) -> str:
        return f"beta={self.beta}, lam={self.lam}, normalize={self.normalize}"
