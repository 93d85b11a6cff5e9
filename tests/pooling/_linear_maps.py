"""Pooling and bilinear enlargement as matrices, for tests: no library call of either."""

from __future__ import annotations

import math

import torch


def pool_matrix(size: int, bins: int) -> torch.Tensor:
    p = torch.zeros(bins, size, dtype=torch.float64)
    for i in range(bins):
        a, b = i * size // bins, math.ceil((i + 1) * size / bins)
        p[i, a:b] = 1 / (b - a)
    return p


def up_matrix(small: int, size: int, align_corners: bool) -> torch.Tensor:
    u = torch.zeros(size, small, dtype=torch.float64)
    for i in range(size):
        if align_corners:
            s = i * (small - 1) / (size - 1) if size > 1 else 0.0
        else:
            s = max((i + 0.5) * small / size - 0.5, 0.0)
        low = min(int(s), small - 1)
        high = min(low + 1, small - 1)
        u[i, low] += 1 - (s - low)
        u[i, high] += s - low
    return u


def pooled(x: torch.Tensor, bins: int) -> torch.Tensor:
    return torch.einsum("ph,qw,nchw->ncpq", pool_matrix(x.shape[2], bins), pool_matrix(x.shape[3], bins), x)


def enlarged(x: torch.Tensor, size, align_corners: bool) -> torch.Tensor:
    rows, cols = (up_matrix(s, t, align_corners) for s, t in zip(x.shape[2:], size, strict=True))
    return torch.einsum("hp,wq,ncpq->nchw", rows, cols, x)


def conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Zero-padded convolution of odd size, tap by tap."""
    kh, kw = weight.shape[2:]
    h, w = x.shape[2:]
    padded = torch.zeros(*x.shape[:2], h + kh - 1, w + kw - 1, dtype=x.dtype)
    padded[:, :, kh // 2 : kh // 2 + h, kw // 2 : kw // 2 + w] = x
    return sum(
        torch.einsum("oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i : i + h, j : j + w])
        for i in range(kh)
        for j in range(kw)
    )


def norm(x: torch.Tensor, bn: torch.nn.BatchNorm2d, training: bool) -> torch.Tensor:
    if training:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    else:
        mean, var = bn.running_mean.view(1, -1, 1, 1), bn.running_var.view(1, -1, 1, 1)
    return bn.weight.view(1, -1, 1, 1) * (x - mean) / (var + bn.eps) ** 0.5 + bn.bias.view(1, -1, 1, 1)
