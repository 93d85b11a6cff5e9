"""Positional Normalization: standardise each position over its channels (Li et al., arXiv 1907.04312)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization import _kernels
from zoo.normalization._function import call
from zoo.numerics import wide as _wide


class _Standardise(torch.autograd.Function):
    """``(y, mean, std)`` of every position, all three differentiable.

    Plain autograd keeps several tensors of the input's size and walks over all of them; the input is enough:

    ``dx = (dy - mean_c(dy) - y * sum_c(dy * y) / m) / std + dmean / C + dstd * y / m`` with ``m = C - u``.

    ``y`` is taken from the input again, not kept: an activation in place may follow. Written in the input and the
    returned moments, so that a second derivative (gradient penalties) flows through them by itself. In place is what
    autograd and vmap never see: only tensors made here, and no batched tensor into one that is not.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, eps: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
        share = count / x.shape[1]  # the sample variance is the biased one over this
        if (found := _kernels.standardise_positions(x, share**0.5, eps * share)) is not None:
            y, mean, std = found
            return y, mean, std.mul_(share**-0.5)
        wide = _wide(x)
        mean = wide.mean(1, keepdim=True)
        centred = wide - mean  # centred second moment: the difference E[x^2] - mean^2 cancels
        std = (centred * centred).sum(1, keepdim=True).div_(count).add_(eps).sqrt_()
        return centred.mul_(std.reciprocal()).to(x.dtype), mean, std

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, int], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.count = inputs[2]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], *output[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dmean: Tensor | None, dstd: Tensor | None) -> tuple[Tensor, None, None]:
        x, mean, std = ctx.saved_tensors
        if dy is not None and dmean is None and dstd is None:
            gain = (ctx.count / x.shape[1]) ** 0.5
            if (dx := _kernels.standardise_positions_backward(dy, x, gain, mean, std * gain)) is not None:
                return dx, None, None
        centred, inverse = _wide(x) - mean, std.reciprocal()
        slope, constant = torch.zeros_like(std), torch.zeros_like(std)  # of dx = dy / std + centred * slope + constant
        if dmean is not None:
            constant = dmean / x.shape[1]
        if dstd is not None:
            slope = dstd * inverse / ctx.count
        if dy is None:
            return (centred * slope + constant).to(x.dtype), None, None
        dy = _wide(dy)
        slope = slope - (dy * centred).sum(1, keepdim=True) * inverse.pow(3) / ctx.count
        constant = constant - dy.mean(1, keepdim=True) * inverse
        dx = torch.addcmul(constant, centred, slope)
        del centred  # before the next temporary: at most three tensors of this size at once
        return dx.add_(dy * inverse).to(x.dtype), None, None


def standardise_last(x: Tensor, eps: float, unbiased: bool) -> Tensor:
    """Standardise ``(*, C)`` over its last dimension by torch's fused kernel.

    Sample variance is the biased one times n / (n - 1): the same kernel with another eps and a constant gain.
    """
    n = x.shape[-1]
    share = (n - 1) / n if unbiased else 1.0
    gain = torch.full((n,), share**0.5, dtype=_wide(x).dtype, device=x.device) if unbiased else None
    return F.layer_norm(_wide(x), (n,), gain, None, eps * share).to(x.dtype)


def positional_norm(x: Tensor, eps: float = 1e-5, unbiased: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    r"""Standardise every position over its channels; the moments come along for a shortcut.

    .. math:: \mu_{b,h,w} = \frac1C \sum_c X_{b,c,h,w}, \quad
              \sigma_{b,h,w} = \sqrt{\frac{1}{C - u} \sum_c (X_{b,c,h,w} - \mu_{b,h,w})^2 + \epsilon}, \quad
              Y = \frac{X - \mu}{\sigma}

    with ``u = 1`` for ``unbiased``. Statistics in float32 at least.

    Args:
        x: ``(N, C, *)``, floating point.
        eps: added inside the root.
        unbiased: divide by C - 1 as the authors' PyTorch code does; their TensorFlow code divides by C.

    Returns:
        ``(y, mean, std)``: ``(N, C, *)`` and twice ``(N, 1, *)``.

    Raises:
        TypeError: integer input.
        ValueError: fewer channels than the variance needs.
    """
    if not x.is_floating_point():
        raise TypeError(f"positional_norm needs floating-point input, received {x.dtype}")
    count = x.shape[1] - int(unbiased)
    if count < 1:
        raise ValueError(
            f"positional_norm needs at least {1 + int(unbiased)} channels with unbiased={unbiased}, "
            f"received an input of shape {tuple(x.shape)}"
        )
    return call(_Standardise, x, eps, count)


class PositionalNorm(nn.Module):
    r"""PONO: :math:`y = (x - \mu) / \sigma` per position, without learned parameters.

    Train and eval are the same function and no sample sees another. Follow it by :class:`MomentShortcut` or
    :class:`DynamicMomentShortcut` where the moments are to come back.

    Args:
        num_channels: C of the input ``(N, C, *)``.
        eps: added to the variance (paper: 1e-5).
        unbiased: sample variance, as in the authors' PyTorch code.
        return_moments: return ``(y, mean, std)`` so that a moment shortcut can re-inject them.

    Raises:
        ValueError: ``num_channels`` below 2 with ``unbiased`` (the sample variance of one value does not exist),
            or an input whose channels differ.
        TypeError: integer input.
    """

    def __init__(
        self, num_channels: int, eps: float = 1e-5, unbiased: bool = True, return_moments: bool = False
    ) -> None:
        super().__init__()
        if num_channels < (2 if unbiased else 1):
            raise ValueError(f"positional_norm needs num_channels >= {2 if unbiased else 1}, received {num_channels}")
        self.num_channels, self.eps, self.unbiased, self.return_moments = num_channels, eps, unbiased, return_moments

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"positional_norm was made for {self.num_channels} channels, received {tuple(x.shape)}")
        if not self.return_moments and x.is_floating_point() and x.movedim(1, -1).is_contiguous():
            return standardise_last(x.movedim(1, -1), self.eps, self.unbiased).movedim(-1, 1)
        y, mean, std = positional_norm(x, self.eps, self.unbiased)
        return (y, mean, std) if self.return_moments else y

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, unbiased={self.unbiased}"


def _check_moments(name: str, x: Tensor, mean: Tensor, std: Tensor) -> None:
    if x.shape[2:] != mean.shape[2:] or mean.shape != std.shape:
        raise ValueError(
            f"{name} needs moments of the input's size, received {tuple(x.shape)}, "
            f"{tuple(mean.shape)} and {tuple(std.shape)}"
        )


class MomentShortcut(nn.Module):
    """MS: scale and shift decoder features with moments that PONO extracted in the encoder: ``x * std + mean``.

    ``x`` is ``(N, C, *)``, ``mean`` and ``std`` are ``(N, 1, *)`` of the same spatial size. Not in place, and in the
    order in which :func:`positional_norm` returns them (the authors' ``MS(x, beta, gamma)`` likewise).

    Raises:
        ValueError: moments of another spatial size.
    """

    def forward(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        _check_moments("moment_shortcut", x, mean, std)
        return (x * std + mean).to(x.dtype)


class DynamicMomentShortcut(nn.Module):
    r"""DMS: a small network turns the encoder's moments into per-channel scale and shift: :math:`\gamma x + \beta`.

    :math:`(\beta, \gamma) = f(\mu, \sigma)` with ``f``: 3x3 convolution from 2 to ``hidden`` channels, ReLU, 3x3
    convolution to ``2 * num_channels``. Nothing keeps ``gamma`` positive, as in the authors' code.

    Args:
        num_channels: C of the decoder features ``(N, C, H, W)``.
        hidden: width of the network; the authors take the decoder's width (default: ``num_channels``).

    Raises:
        ValueError: moments of another spatial size.
    """

    def __init__(self, num_channels: int, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden or num_channels
        self.net = nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * num_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        _check_moments("dynamic_moment_shortcut", x, mean, std)
        beta, gamma = self.net(torch.cat((mean, std), 1).to(x.dtype)).chunk(2, 1)
        return gamma * x + beta
