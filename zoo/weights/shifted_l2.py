"""Weight decay with a target length for normalised weights (Li et al., arXiv 1911.05920 and AAAI 2020)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def normalised_weights(model: nn.Module) -> list[Tensor]:
    """Weights of every convolution with more than one input channel a filter: the set that the authors' code shrinks.

    Depthwise filters, biases and gains are left out. Where torch's weight normalization is in place, v is taken.
    """
    found: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.in_channels > layer.groups:
            stored: Any = layer.parametrizations if parametrize.is_parametrized(layer, "weight") else None
            if stored is None:
                found.append(layer.weight)
            else:
                found.append(stored.weight.original1 if hasattr(stored.weight, "original1") else stored.weight.original)
    return found


def _filters(weights: nn.Module | Iterable[Tensor]) -> list[Tensor]:
    chosen: list[Tensor] = [*normalised_weights(weights)] if isinstance(weights, nn.Module) else list(weights)
    if not chosen:
        raise ValueError("no weight to act on: a model needs a convolution that is not depthwise")
    for w in chosen:
        if w.dim() < 2:
            raise ValueError(f"weights have shape (out, ...), received {tuple(w.shape)}")
    return [w.flatten(1) for w in chosen]


class ShiftedL2(nn.Module):
    r"""The epsilon-shifted L2 regularizer: decay towards a length, not towards zero.

    .. math::
        R_\mathrm{WN} &= \frac\lambda2 \sum_\mathrm{filters} (\|w\| - \epsilon)^2,
        \qquad \nabla R = \lambda \left(1 - \frac{\epsilon}{\|w\|}\right) w \\
        R_\mathrm{WS} &= \frac\lambda2 \sum_\mathrm{filters} \left[(n-1)(s - \epsilon)^2 + n\mu^2\right],
        \qquad \nabla R = \lambda \left[\left(1 - \frac\epsilon s\right)(w - \mu) + \mu\right]

    with mean :math:`\mu` and sample standard deviation s of the n values of a filter. The second form's gradient is
    what the authors' optimizer adds for weight standardization. It replaces ordinary weight decay: turn that off for
    the same parameters. :math:`\epsilon` is a length in the first form and a deviation in the second; they differ by
    about :math:`\sqrt n`.

    Args:
        lam: lambda (authors: 1e-4).
        eps: target (authors: 1e-3; 1e-8 to 1e-2 in their runs).
        form: ``weight_norm`` or ``weight_standardization``.

    Call with a model (its convolutions that are not depthwise) or with weights ``(out, ...)``; returns a scalar.

    Raises:
        ValueError: unknown form, negative values, nothing to act on, or one value a filter with the second form.
    """

    def __init__(
        self,
        lam: float = 1e-4,
        eps: float = 1e-3,
        form: Literal["weight_norm", "weight_standardization"] = "weight_standardization",
    ) -> None:
        super().__init__()
        if form not in ("weight_norm", "weight_standardization"):
            raise ValueError(f"form is weight_norm or weight_standardization, received {form!r}")
        if lam < 0 or eps < 0:
            raise ValueError(f"shifted_l2 needs lam >= 0 and eps >= 0, received {lam}, {eps}")
        self.lam, self.eps, self.form = lam, eps, form

    def forward(self, weights: nn.Module | Iterable[Tensor]) -> Tensor:
        terms = []
        for w in _filters(weights):
            wide = w.float() if w.dtype in (torch.float16, torch.bfloat16) else w
            if self.form == "weight_norm":
                terms.append((torch.linalg.vector_norm(wide, dim=1) - self.eps).square().sum())
                continue
            n = wide.shape[1]
            if n < 2:
                raise ValueError(f"weight_standardization needs two values a filter or more, received {tuple(w.shape)}")
            mean = wide.mean(1)
            deviation = torch.linalg.vector_norm(wide - mean.unsqueeze(1), dim=1) * (n - 1) ** -0.5
            terms.append(((n - 1) * (deviation - self.eps).square() + n * mean.square()).sum())
        return 0.5 * self.lam * torch.stack(terms).sum()

    def extra_repr(self) -> str:
        return f"lam={self.lam}, eps={self.eps}, form={self.form!r}"


class AdaptiveWeightShrink:
    r"""Adaptive Weight Shrink (AWS), the method of the AAAI version: shrink long filters more.

    .. math:: w \leftarrow \max(0,\; 1 - \lambda\,\|w\|)\, w \qquad \text{after every optimizer step}

    The abstract says that the weights are shrunk by a dynamic coefficient proportional to the magnitude of the
    parameter; the exact update of the paper was not read, so per filter, the constant and the place after the step are
    this catalog's reading. A filter's length then decays like 1/t instead of exponentially, which leaves small
    weights alone without a target length.

    Args:
        model_or_params: a model (its convolutions that are not depthwise) or weights ``(out, ...)``.
        lam: lambda.

    Raises:
        ValueError: negative lambda, or nothing to act on.
    """

    def __init__(self, model_or_params: nn.Module | Iterable[nn.Parameter], lam: float = 1e-4) -> None:
        if lam < 0:
            raise ValueError(f"adaptive_weight_shrink needs lam >= 0, received {lam}")
        if isinstance(model_or_params, nn.Module):
            self.weights: list[Tensor] = normalised_weights(model_or_params)
        else:
            self.weights = list(model_or_params)
        _filters(self.weights)
        self.lam = lam

    @torch.no_grad()
    def project(self) -> None:
        """Shrink every filter in place."""
        for w in self.weights:
            length = torch.linalg.vector_norm(w.flatten(1), dim=1)
            w.mul_((1 - self.lam * length).clamp_min(0).view(-1, *(1,) * (w.dim() - 1)))
