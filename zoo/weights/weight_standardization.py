"""Weight Standardization: every filter has mean 0 and variance 1 (Qiao et al., arXiv 1903.10520)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import StdConv2d
from torch import Tensor, nn


def standardize_weight(weight: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Standardise each filter over its input channels and window, differentiably.

    .. math:: \hat W_o = \frac{W_o - \mu_o}{\sqrt{\sigma_o^2 + \epsilon}}

    with biased variance over ``(I / groups, *window)``, in float32 at least: batch norm over the flattened filters.

    Args:
        weight: ``(O, I / groups, *window)``.
        eps: inside the root.

    Returns:
        Same shape and dtype.
    """
    wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    flat = F.batch_norm(wide.reshape(1, weight.shape[0], -1), None, None, training=True, momentum=0.0, eps=eps)
    return flat.reshape(weight.shape).to(weight.dtype)


def check_fan_in(name: str, weight: Tensor) -> None:
    """Refuse filters of a single weight.

    Raises:
        ValueError: their variance is always 0.
    """
    if weight[0].numel() < 2:
        raise ValueError(
            f"{name} needs filters of two or more weights, received {tuple(weight.shape)} "
            f"(a depthwise 1 x 1 convolution has nothing to standardise)"
        )


class WSConv2d(StdConv2d):
    """timm's ``StdConv2d`` with the arguments and defaults of ``nn.Conv2d``.

    timm's class names its first argument ``in_channel``, has no bias by default and chooses padding by itself when none
    is given; this one is a ``StdConv2d`` for isinstance checks and checkpoints, built like a plain convolution.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d``.
        eps: inside the root of the filter variance (timm: 1e-6, its BiT models 1e-8, the authors 1e-5).

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
        eps: float = 1e-6,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, eps)
        check_fan_in("weight_standardization", self.weight)

    def standardized_weight(self) -> Tensor:
        """The weight that the convolution really uses: with it, a plain ``nn.Conv2d`` gives the same output."""
        return standardize_weight(self.weight, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.standardized_weight(), self.bias)


class _WSConv(nn.modules.conv._ConvNd):
    """Mix-in for the other dimensions: standardise, then the convolution of the class beside it."""

    def __init__(self, *args: Any, eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps
        check_fan_in("weight_standardization", self.weight)

    def standardized_weight(self) -> Tensor:
        return standardize_weight(self.weight, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.standardized_weight(), self.bias)


class WSConv1d(_WSConv, nn.Conv1d):
    """:class:`WSConv2d` for ``(N, C, L)``; arguments of ``nn.Conv1d``, and ``eps``."""


class WSConv3d(_WSConv, nn.Conv3d):
    """:class:`WSConv2d` for ``(N, C, D, H, W)``; arguments of ``nn.Conv3d``, and ``eps``."""
