"""Positions standardised over their channels in half precision: torch's batch norm kernels over blocks of samples.

To them a position is a channel, once a block of samples lies in memory as ``(C, samples * positions)``. One call for each
sample would need no copy, and takes longer: a call costs about as much as copying a sample of 100 KB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from zoo.normalization import _kernels
from zoo.normalization._function import traced

_backward = torch.ops.aten.native_batch_norm_backward.default
#: Positions in a block, about. More cost little time, and memory: a block's gradients lie there twice for a moment. Half of
#: it took 8 % longer in small maps, as a call out of a cold cache takes 10 to 20 us.
BLOCK = 2**14


@lru_cache(maxsize=64)
def _filled(size: int, value: float) -> Tensor:
    """A row of coefficients, written by nobody."""
    with torch.inference_mode(False):  # one call may be evaluation, the next one training
        return torch.full((size,), value)


def by_kernel(x: Tensor) -> bool:
    """Whether :func:`standardise` takes ``x``: contiguous half precision on a CPU, not small, watched by nobody."""
    return (
        x.dtype in _kernels.HALF
        and x.is_cpu
        and x.dim() > 2
        and x.numel() >= _kernels.LARGE
        and x.is_contiguous()
        and not traced()
        and not torch._C._len_torch_dispatch_stack()
    )


def _blocks(x: Tensor, each: int) -> Sequence[Tensor]:
    """Contiguous ``(N, C, *)`` as ``(C, each, positions)``, the last one perhaps with fewer samples; nothing is copied."""
    n, c = x.shape[:2]
    x = x.view(n, c, -1).transpose(0, 1)
    return (x,) if each == n else x.split(each, 1)


class _ByKernel(Function):
    """``y + damping * y * y`` with ``y`` standardised, times ``gain``.

    Keeps the input and, in the blocks' order, the input or what a product with the gradient needs: ``y``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: float, eps: float, damping: float, moments: bool, gradient: Callable[..., Tensor]
    ) -> tuple[Tensor, ...] | Tensor:
        n, c = x.shape[:2]
        parts = -(-x.numel() // (c * BLOCK))
        each = -(-n // parts)
        z, found = torch.empty_like(x), []
        kept: list[Tensor] = []
        for source, out in zip(_blocks(x, each), _blocks(z, each), strict=True):
            columns = source.reshape(c, -1)
            size = columns.shape[1]
            y, (mean, inverse) = torch.empty_like(columns), torch.empty((2, size)).unbind()
            torch.native_batch_norm(
                columns, _filled(size, gain), _filled(size, 0.0), None, None, True, 0.0, eps, out=(y, mean, inverse)
            )
            found.append((mean, inverse))
            y = y.view_as(source)
            if damping:
                torch.addcmul(y, y, y, value=damping, out=out)
                kept += y, inverse
            else:
                out.copy_(y)
                kept += columns.view_as(source), mean, inverse
        ctx.save_for_backward(x, *kept)
        ctx.how = each, gain, damping, gradient
        ctx.set_materialize_grads(False)
        if not moments:
            return z
        mean, inverse = (torch.cat(v).view(n, 1, *x.shape[2:]) for v in zip(*found, strict=True))
        return z, mean, inverse.reciprocal_().mul_(1 / gain)

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None, *dmoments: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors
        each, gain, damping, gradient = ctx.how
        if dz is None or any(v is not None for v in dmoments) or not _kernels.fits(dz):
            return gradient(x, dz, *dmoments), None, None, None, None, None
        saved = iter(kept)
        for number, source in enumerate(_blocks(dz.contiguous(), each)):
            found = _block_gradient(source, saved, gain, damping)
            if number == 0:  # not before: that block's copy of dz is gone now
                dx = torch.empty_like(x)
                targets = _blocks(dx, each)
            targets[number].copy_(found)
        return dx, None, None, None, None, None


def _block_gradient(dz: Tensor, saved: Iterator[Tensor], gain: float, damping: float) -> Tensor:
    """What the output of a block owes to its input, ``(C, samples, positions)``; takes what the block kept off ``saved``."""
    values = next(saved)
    columns = values.view(len(values), -1)
    size = columns.shape[1]
    if damping:
        # With y as the input: its mean is 0, its deviation the gain.
        dy = torch.addcmul(dz, dz, values, value=damping, out=torch.empty_like(values))
        weight, mean, inverse = next(saved) * gain**2, _filled(size, 0.0), _filled(size, 1 / gain)
    else:
        dy = dz.contiguous()
        weight, mean, inverse = _filled(size, gain), next(saved), next(saved)
    mask = [True, False, False]
    found = _backward(dy.view(columns.shape), columns, weight, None, None, mean, inverse, True, 0.0, mask)
    return found[0].view(dz.shape)


def standardise(
    x: Tensor, gain: float, eps: float, gradient: Callable[..., Tensor], damping: float = 0.0, moments: bool = False
) -> Any:
    r"""``y + damping * sg(y) * y`` with :math:`y = g (x - \mu_c) / \sqrt{\sigma_c^2 + \epsilon}`, moments over channels, biased.

    Args:
        x: one that :func:`by_kernel` accepts.
        gain: g.
        eps: inside the root.
        gradient: ``(x, dz, dmean, dstd)`` to the gradient of ``x`` in plain operations, with any of the last three None,
            the last two left out without ``moments``; taken where derivatives follow.
        damping: times a square of which one factor is a constant for the gradient (sg).
        moments: return ``(z, mean, std)``, the last two ``(N, 1, *)`` and float32, the deviation that over ``g``.
    """
    return _ByKernel.apply(x, gain, eps, damping, moments, gradient)
