"""Sums over the patches that a convolution sees, as one-channel box convolutions instead of an unfold."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.numerics import wide, without_autocast

#: What nn.Conv2d knows.
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Turn autocast off; devices that know no autocast (meta) need nothing."""
    return without_autocast(x.device.type)


def check_conv_input(layer: nn.Conv2d, x: Tensor, name: str) -> None:
    """Refuse what a convolution would refuse later with a message that does not name the layer."""
    if x.dim() != 4 or x.shape[1] != layer.in_channels:
        raise ValueError(f"{name} takes (N, {layer.in_channels}, H, W), received {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name} takes floating point input, received {x.dtype}")


def pad_like(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, str | tuple[int, ...]]:
    """Apply a padding mode other than zeros as ``nn.Conv2d`` does; returns the input and the padding left to do."""
    if layer.padding_mode == "zeros":
        return x, layer.padding
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), (0, 0)


def box_sum(maps: Tensor, layer: nn.Conv2d, padding: str | tuple[int, ...]) -> Tensor:
    """Sum ``(N, M, H, W)`` over every patch of ``layer``: ``(N, M, Ho, Wo)``. One depthwise convolution with ones."""
    channels = maps.shape[1]
    ones = maps.new_ones(channels, 1, *layer.kernel_size)
    return F.conv2d(maps, ones, None, layer.stride, padding, layer.dilation, channels)


def patch_square_sum(layer: nn.Conv2d, x: Tensor, padding: str | tuple[int, ...]) -> Tensor:
    """Squared norm of every patch: ``(N, C, H, W) -> (N, groups, Ho, Wo)``, in at least float32."""
    with full_precision(x):
        squares = wide(x).square().unflatten(1, (layer.groups, -1)).sum(2)
        return box_sum(squares, layer, padding)


def patch_variance(layer: nn.Conv2d, x: Tensor, padding: str | tuple[int, ...]) -> Tensor:
    r"""Biased variance of every patch, zero padding included: ``(N, C, H, W) -> (N, groups, Ho, Wo)``.

    By the law of total variance a patch's variance is the mean of the per-position variances over channels plus the
    variance of the per-position means, so only one-channel maps are boxed. The means are shifted by their average
    over the image first: :math:`E[x^2] - E[x]^2` would lose every digit where the mean is large against the spread.
    """
    with full_precision(x):
        size = layer.kernel_size[0] * layer.kernel_size[1]
        values = wide(x).unflatten(1, (layer.groups, -1))
        mean = values.mean(2)
        var = (values - mean.unsqueeze(2)).square().mean(2)
        # The result does not depend on the shift, so its gradient is zero and it can be detached.
        shift = mean.detach().mean(dim=(2, 3), keepdim=True)
        centred = mean - shift
        first, second = (box_sum(torch.cat((centred, var + centred.square()), 1), layer, padding) / size).chunk(2, 1)
        if padding not in ("valid", (0, 0)):
            # Padded zeros were counted as `shift` (zero after centring); put them back to minus the shift.
            outside = 1 - box_sum(mean.new_ones(1, 1, *mean.shape[2:]), layer, padding) / size
            first, second = first - outside * shift, second + outside * shift.square()
        return (second - first.square()).clamp_min(0)


def per_filter(maps: Tensor, out_channels: int) -> Tensor:
    """``(N, groups, Ho, Wo)`` so that it broadcasts against ``(N, out_channels, Ho, Wo)``."""
    groups = maps.shape[1]
    return maps if groups == 1 else maps.repeat_interleave(out_channels // groups, dim=1)
