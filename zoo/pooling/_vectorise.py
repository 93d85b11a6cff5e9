"""What the second-order pools share: channel reduction, covariance, triangles of symmetric matrices."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def triangle_size(channels: int) -> int:
    """Entries on and above the diagonal: ``C (C + 1) / 2``."""
    return channels * (channels + 1) // 2


def upper_triangle(matrix: Tensor, isometric: bool = False) -> Tensor:
    """``(N, C, C) -> (N, C (C + 1) / 2)``, row by row.

    Args:
        matrix: symmetric in its last two dimensions.
        isometric: scale off-diagonal entries by sqrt(2), so that inner products and norms are those of the full matrix.
    """
    c = matrix.shape[-1]
    # Made anew from a device-side kernel: a buffer would have to survive meta construction, and costs as much to read.
    rows, cols = torch.triu_indices(c, c, device=matrix.device)
    values = matrix.flatten(-2)[..., rows * c + cols]
    return values * isometry(c, values) if isometric else values


def isometry(channels: int, like: Tensor) -> Tensor:
    """Weights of the triangle's entries that count off-diagonal ones twice: 1 on the diagonal, sqrt(2) off it."""
    rows, cols = torch.triu_indices(channels, channels, device=like.device)
    return 1 + (2.0**0.5 - 1) * (rows != cols).to(like.dtype)


def covariance(x: Tensor) -> Tensor:
    r"""Covariance of channels over positions, :math:`\Sigma = \frac1M (X - \bar X)(X - \bar X)^\top`.

    Args:
        x: ``(N, C, M)``.

    Returns:
        ``(N, C, C)``, divided by M (biased).
    """
    centred = x - x.mean(-1, keepdim=True)
    return centred @ centred.mT / x.shape[-1]


def reduce_channels(in_channels: int, reduction: int | None) -> tuple[nn.Module, int]:
    """1 x 1 convolution without bias, BatchNorm, ReLU down to ``reduction``; nothing where that is not a reduction.

    Returns:
        ``(module, channels after it)``.
    """
    if reduction is None or in_channels <= reduction:
        return nn.Identity(), in_channels
    convolution = nn.Conv2d(in_channels, reduction, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(reduction), nn.ReLU(inplace=True)), reduction
