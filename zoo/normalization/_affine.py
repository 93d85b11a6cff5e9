"""Moments and affine maps of ``(N, C, *)`` that keep the input only for their backward pass, and walk over it few times.

With them a norm is arithmetic on ``(N, C)`` numbers between two passes over the data: :func:`observe` takes the moments,
the norm turns them into a scale and a shift by plain autograd, :func:`scale_shift` applies these. Equally fast in
channels-last memory, where torch's group norm and grouped views are not (torch 2.15, CPU).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from zoo.normalization import _kernels
from zoo.normalization._function import call
from zoo.numerics import wide


def spread(v: Tensor, x: Tensor) -> Tensor:
    """``(samples, C)`` so that it broadcasts against ``(N, C, *)``; a view where ``samples`` is 1 or N."""
    if 1 < len(v) < len(x):
        v = v.expand(len(x) // len(v), *v.shape).reshape(len(x), -1)  # sample i belongs to i mod samples
    return v.view(*v.shape, *(1,) * (x.dim() - 2))


def total(x: Tensor, samples: int = 0) -> Tensor:
    """Sum over positions, ``(N, C)``, and over the samples i that have ``i mod samples`` in common: ``(samples, C)``."""
    if samples == 1:
        return x.sum((0, *range(2, x.dim()))).unsqueeze(0)
    x = x.sum(list(range(2, x.dim()))) if x.dim() > 2 else x
    return x.view(-1, samples, x.shape[1]).sum(0) if 0 < samples < len(x) else x


def affine(x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """``x * scale + shift`` with both ``(samples, C)``, computed in float32 at least; None: 0."""
    if (y := _kernels.affine(x, scale, shift)) is not None:
        return y
    a = spread(scale, x)
    if shift is None:
        return (wide(x) * a).to(x.dtype)
    b = spread(shift, x)
    # One pass where the channels are the innermost axis; elsewhere torch's addcmul is slower than two.
    y = torch.addcmul(b, wide(x), a) if x.stride(1) == 1 else (wide(x) * a).add_(b)
    return y.to(x.dtype)


def sums(dy: Tensor, x: Tensor, samples: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sums of ``dy * x`` and of ``dy`` over the values that :func:`total` adds, and room that :func:`combine` may write to."""
    if (found := _kernels.sums(dy, x, samples or len(x))) is not None:
        return *found, None
    dy = wide(dy)
    product = dy * wide(x)
    room = None if torch.is_grad_enabled() or product.dtype != x.dtype else product
    return total(product, samples), total(dy, samples), room


def scaled(dy: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of :func:`affine`: ``dy * scale``, and the sums of ``dy * x`` and of ``dy`` that ``scale`` and shift get."""
    if (found := _kernels.affine_backward(dy, x, scale)) is not None:
        return found
    return (wide(dy) * spread(scale, x)).to(x.dtype), *sums(dy, x, len(scale))[:2]


def add_affine(dx: Tensor, x: Tensor, slope: Tensor, constant: Tensor | None = None) -> Tensor:
    """``dx + x * slope + constant`` like :func:`affine`; in place, unless derivatives follow: nobody else holds ``dx``."""
    if x.dtype in _kernels.HALF and (y := _kernels.affine(x, slope, constant)) is not None:
        return dx.add_(y)
    a = spread(slope, x)
    if torch.is_grad_enabled() or dx.dtype != slope.dtype:
        y = torch.addcmul(dx, wide(x), a)
        return (y if constant is None else y + spread(constant, x)).to(x.dtype)
    dx.addcmul_(x, a)
    return dx if constant is None else dx.add_(spread(constant, x))


def combine(dy: Tensor, a: Tensor, x: Tensor, b: Tensor, c: Tensor | None = None, room: Tensor | None = None) -> Tensor:
    """``dy * a + x * b + c`` with numbers ``(samples, C)``, in the dtype of ``x``; None: 0.

    In bfloat16 ``a`` is rounded before it multiplies, which moves a value by half an ulp at most: so does storing
    ``dy * a``, which this saves. Its range is that of float32, unlike float16's.

    Args:
        room: overwritten by the result where that saves memory; like ``x``, read by nobody.
    """
    if x.dtype in _kernels.HALF and (y := _kernels.affine(x, b, c)) is not None:
        if x.dtype == torch.bfloat16:
            return y.addcmul_(dy, spread(a.to(x.dtype), x))
        return y.add_(affine(dy, a, None))  # both rounded, the second is most of it
    if room is not None and c is not None and x.stride(1) == 1:
        return torch.addcmul(spread(c, x), x, spread(b, x), out=room).addcmul_(dy, spread(a, x))
    return affine(wide(x), b, c).addcmul_(wide(dy), spread(a, x)).to(x.dtype)


def sample_moments(x: Tensor, samples: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and biased variance ``(samples, C)`` over the values that :func:`total` adds."""
    samples = samples or len(x)
    if (found := _kernels.moments(x, samples)) is not None:
        return found
    if 1 < samples < len(x) and (each := _kernels.moments(x, len(x))) is not None:
        found = _kernels.pooled(*(v.view(-1, samples * x.shape[1]) for v in each))  # sample i belongs to i mod samples
        if found is not None:
            return found[0].view(samples, -1), found[1].view(samples, -1)
    share, x = samples * x.shape[1] / x.numel(), wide(x)
    mean = total(x, samples) * share
    centred = x - spread(mean, x)  # the difference of E[x^2] and mean^2 would cancel
    return mean, total(centred.mul_(centred), samples) * share


class _ScaleShift(Function):
    """``x * scale + shift`` with both ``(N, C)`` or ``(1, C)``; differentiable twice."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return affine(x, scale, shift)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        return scaled(dy, x, scale)


class _Observed(Function):
    """``x`` and its moments over positions, or over samples and positions; differentiable twice.

    ``x`` comes along so that its gradient comes back through this node, which adds its own share in place.
    """

    @staticmethod
    def forward(x: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        return x.view_as(x), *sample_moments(x, samples)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dmean: Tensor, dvar: Tensor) -> tuple[Tensor, None]:
        x, mean = ctx.saved_tensors
        share = mean.numel() / x.numel()
        slope = dvar * (2 * share)
        return add_affine(dx, x, slope, dmean * share - mean * slope), None


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    r""":math:`y_{ncp} = a_{nc} x_{ncp} + b_{nc}`, computed in float32 at least, in the dtype of ``x``.

    Args:
        x: ``(N, C, *)``.
        scale, shift: a and b, ``(N, C)``, or ``(1, C)`` for all samples alike.
    """
    y: Tensor = call(_ScaleShift, x, scale, shift)
    return y


def observe(x: Tensor, each_sample: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """``x``, mean and biased variance over positions, ``(N, C)``, or over samples, too, ``(1, C)``; float32 at least.

    Hand the ``x`` returned to one :func:`scale_shift` and to nothing else: its gradient is completed in place.
    """
    found: tuple[Tensor, Tensor, Tensor] = call(_Observed, x, len(x) if each_sample else 1)
    return found
