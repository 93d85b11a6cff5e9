"""Scaled Weight Standardization: filters of mean 0 and norm gamma, for networks without norms (arXiv 2101.08692)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d
from torch import Tensor

from zoo.errors import UnknownName
from zoo.weights.weight_standardization import check_fan_in, standardize_weight

#: Activations of :func:`variance_gain`.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu, "elu": F.elu, "selu": F.selu,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "leaky_relu": F.leaky_relu,
}  # fmt: skip


def variance_gain(activation: str) -> float:
    r"""The factor after which an activation keeps the variance of unit Gaussian input: :math:`1 / \mathrm{std}[g(z)]`.

    For ReLU :math:`\sqrt{2 / (1 - 1/\pi)} = 1.7139\ldots`; the others by quadrature in float64.

    Raises:
        UnknownName: an activation that is not known.
    """
    if activation not in ACTIVATIONS:
        raise UnknownName("activation", activation, list(ACTIVATIONS))
    if activation == "relu":
        return math.sqrt(2 / (1 - 1 / math.pi))
    z = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    value = ACTIVATIONS[activation](z)
    mean = torch.trapezoid(value * density, z)
    return float(torch.trapezoid((value - mean).square() * density, z) ** -0.5)


class ScaledWSConv2d(ScaledStdConv2d):
    r"""timm's ``ScaledStdConv2d`` with the arguments and defaults of ``nn.Conv2d``.

    .. math:: \hat W_o = g_o\, \gamma\, \frac{W_o - \mu_o}{\sqrt N \sqrt{\sigma_o^2 + \epsilon}}, \qquad y = \hat W * x

    with fan-in :math:`N`, a learnt gain :math:`g_o` that starts at 1, and the constant :math:`\gamma` of the activation that
    comes *before* this convolution (:func:`variance_gain`).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d``.
        gamma: 1 where the constant is part of the activation instead.
        eps: inside the root of the filter variance.
        gain_init: start of the gain.

    Raises:
        ValueError: filters of a single weight, whose variance is always 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        gamma: float = 1.0,
        eps: float = 1e-6,
        gain_init: float = 1.0,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups,
            bias=bias, gamma=gamma, eps=eps, gain_init=gain_init,
        )  # fmt: skip
        check_fan_in("scaled_weight_standardization", self.weight)

    def standardized_weight(self) -> Tensor:
        """The weight that the convolution really uses: with it, a plain ``nn.Conv2d`` gives the same output."""
        return standardize_weight(self.weight, self.eps) * (self.gain * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.standardized_weight().to(self.weight.dtype), self.bias)
