"""Passes over the data by torch's batch norm kernels: any dtype in and out, statistics and coefficients in float32.

They convert in registers, where ``x.float()`` would write a copy twice the size of the data. What they call a channel is
whatever stands in dimension 1, so a view decides which values share a statistic: see :func:`rows`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from zoo.normalization._function import traced

#: Dtypes that a norm computes in float32.
HALF = (torch.float16, torch.bfloat16)
#: The kernels divide by ``sqrt(1 + this)``, which is one; torch 2.11 refuses an eps of zero.
_NO_EPS = 1e-30


def fits(*tensors: Tensor) -> bool:
    """Whether these may go to a kernel that nothing looks into.

    Not while compiling, exporting, under ``torch.func`` or a dispatch mode (plain terms fuse, or have batching rules), and
    not where a second derivative may follow. Measured on a CPU, so only there.
    """
    if torch.is_grad_enabled() or traced() or torch._C._len_torch_dispatch_stack():
        return False
    return all(t.is_cpu and t.numel() > 0 for t in tensors)


@lru_cache(maxsize=64)
def _standard(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Mean 0 and variance 1, and two empty outputs, written by nobody: making them at each call would show."""
    with torch.inference_mode(False):  # one call may be evaluation, the next one training
        unused = torch.empty(0, dtype=dtype), torch.empty(0, dtype=dtype)
        return torch.zeros(size, dtype=dtype), torch.ones(size, dtype=dtype), unused


@lru_cache(maxsize=64)
def counting(size: int) -> Tensor:
    """0, 1, ..., written by nobody."""
    with torch.inference_mode(False):
        return torch.arange(size)


def rows(x: Tensor, samples: int = 1) -> Tensor | None:
    """View ``(N, C, *)`` so that dimension 1 holds the ``samples * C`` statistics, without a copy; None if there is none.

    With ``samples`` 1 all samples share them; with N each has its own; between the two sample i belongs to
    ``i mod samples``. Channels-last memory has the first view only.
    """
    if samples == 1 and (x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))):
        return x
    n, c = x.shape[:2]
    if x.is_contiguous():
        return x.view(n // samples, samples * c, -1)
    if samples > 1 or not (last := x.movedim(1, -1)).is_contiguous():
        return None
    return last.view(1, -1, 1, c).permute(0, 3, 1, 2)


def unrows(v: Tensor, x: Tensor) -> Tensor:
    """What came out for a view of :func:`rows`, in the shape and memory order of ``x``: for gradients, which nobody changes.

    A view must not leave an autograd function as its output: an activation in place behind the norm would be refused.
    """
    if v.shape == x.shape:
        return v
    if x.is_contiguous():
        return v.view(x.shape)
    return v.permute(0, 2, 3, 1).reshape(x.movedim(1, -1).shape).movedim(-1, 1)


def _empty(x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Room for an output like ``x``, and its view as :func:`rows`."""
    y = torch.empty_like(x)
    v = rows(y, samples)
    assert v is not None
    return y, v


def _like(dy: Tensor, x: Tensor) -> Tensor:
    """``dy`` in the memory order of ``x``."""
    return dy if dy.stride() == x.stride() else torch.empty_like(x).copy_(dy)


def wide_dtype(x: Tensor) -> torch.dtype:
    """float32 at least."""
    return torch.float32 if x.dtype in HALF else x.dtype


def _wide_enough(x: Tensor, *coefficients: Tensor) -> bool:
    return all(v.dtype == wide_dtype(x) for v in coefficients)


#: Values of a sample from which a kernel call for each of them costs less than passes over all with copies.
LARGE = 2**14
#: Rows that the kernel may add one after the other, in single precision; torch's batch norm does so with all.
FEW = 2**10


def moments(x: Tensor, samples: int = 1) -> tuple[Tensor, Tensor] | None:
    """Mean and biased variance ``(samples, C)``; None where plain sums are faster or no kernel fits.

    In single precision the kernel is slow over contiguous rows, and adds one number after the other in channels-last
    memory: its mean loses digits there, so that of many is taken from a sum.
    """
    half = x.dtype in HALF
    if not fits(x) or (not half and x.is_contiguous()):
        return None
    # Running values: they say in which precision to answer.
    scratch = torch.empty(x.shape[1] * samples, dtype=wide_dtype(x))
    if (v := rows(x, samples)) is not None:
        mean, var = torch.batch_norm_update_stats(v, scratch, scratch, 0.0)
        return (mean if half else v.mean((0, *range(2, v.dim())))).view(samples, -1), var.view(samples, -1)
    n, c, *size = x.shape
    positions = math.prod(size)
    if samples != n or c * positions < LARGE or positions > FEW or not (last := x.movedim(1, -1)).is_contiguous():
        return None
    scratch = scratch.narrow(0, 0, c)
    found = [torch.batch_norm_update_stats(v, scratch, scratch, 0.0) for v in last.view(n, positions, c).unbind()]
    mean, var = (torch.stack(v) for v in zip(*found, strict=True))
    return mean, var


def pooled(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor] | None:
    """Moments ``(C,)`` of all samples from those of each, ``(N, C)``. None: no kernel."""
    if not fits(mean):
        return None
    scratch = torch.empty(mean.shape[1], dtype=mean.dtype)
    centre, between = torch.batch_norm_update_stats(mean, scratch, scratch, 0.0)
    return centre, between.add_(var.mean(0))


def affine(x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor | None:
    """``x * scale + shift``, both ``(samples, C)``, rounded once: evaluation with mean 0 and variance 1. None: no kernel."""
    if not fits(x) or not _wide_enough(x, scale, scale if shift is None else shift):
        return None
    if (v := rows(x, len(scale))) is None:
        return None
    y, out = _empty(x, len(scale))
    scale = scale.reshape(-1)
    mean, var, unused = _standard(len(scale), scale.dtype)
    shift = mean if shift is None else shift.reshape(-1)
    torch.native_batch_norm(v, scale, shift, mean, var, False, 0.0, _NO_EPS, out=(out, *unused))
    return y


def sums(dy: Tensor, x: Tensor, samples: int) -> tuple[Tensor, Tensor] | None:
    """Sums of ``dy * x`` and of ``dy``, ``(samples, C)``, in one pass over both. None: no kernel."""
    if not fits(x, dy) or (v := rows(x, samples)) is None:
        return None
    mean, var, _ = _standard(v.shape[1], wide_dtype(x))
    _, along, total = torch.ops.aten.native_batch_norm_backward.default(
        rows(_like(dy, x), samples), v, var, mean, var, None, None, False, _NO_EPS, [False, True, True]
    )
    return along.view(samples, -1), total.view(samples, -1)


def affine_backward(dy: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """What :func:`affine` owes: ``dy * scale``, and ``(samples, C)`` sums of ``dy * x`` and of ``dy``. None: no kernel."""
    if not fits(x, dy) or not _wide_enough(x, scale) or (v := rows(x, len(scale))) is None:
        return None
    dy = _like(dy, x)
    flat = scale.flatten()
    mean, var, _ = _standard(len(flat), flat.dtype)
    dx, along, total = torch.ops.aten.native_batch_norm_backward.default(
        rows(dy, len(scale)), v, flat, mean, var, None, None, False, _NO_EPS, [True, True, True]
    )
    return unrows(dx, x), along.view_as(scale), total.view_as(scale)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, samples: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Batch norm of the rows of :func:`rows` with gain and shift ``(C,)``. None: no kernel.

    Returns:
        ``(y, mean, var)``, the moments ``(samples, C)`` and biased.
    """
    if not fits(x) or (v := rows(x, samples)) is None:
        return None
    mean, var = torch.zeros((2, v.shape[1]), dtype=wide_dtype(x)).unbind()
    weight, bias = (p.to(mean.dtype).expand(samples, -1).reshape(-1) for p in (weight, bias))
    # With momentum 1 the running values are this batch's, the variance unbiased.
    y, out = _empty(x, samples)
    saved = torch.empty_like(mean), torch.empty_like(mean)
    torch.native_batch_norm(v, weight, bias, mean, var, True, 1.0, eps, out=(out, *saved))
    count = v.numel() / len(mean)
    return y, mean.view(samples, -1), var.mul_((count - 1) / count).view(samples, -1)


def batch_norm_backward(
    dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, ...] | None:
    """Gradients of input, gain and shift of :func:`batch_norm` with these moments, ``(samples, C)``. None: no kernel."""
    samples = len(mean)
    if not fits(x, dy) or (v := rows(x, samples)) is None:
        return None
    dy = _like(dy, x)
    weight = weight.to(mean.dtype).expand(samples, -1).reshape(-1)
    dx, *sums = torch.ops.aten.native_batch_norm_backward.default(
        rows(dy, samples), v, weight, None, None, mean.flatten(), inverse.flatten(), True, 0.0, [True, True, True]
    )
    return unrows(dx, x), *(v.view(samples, -1).sum(0) for v in sums)


def _maps(*tensors: Tensor) -> list[tuple[Tensor, ...]] | None:
    """Contiguous half-precision ``(N, C, *)`` as ``(C, P)`` of one sample each: rows are positions there. None: no kernel."""
    x = tensors[0]
    if not fits(*tensors) or x.dtype not in HALF or x[0].numel() < LARGE or not all(t.is_contiguous() for t in tensors):
        return None
    return list(zip(*(t.flatten(2).unbind() for t in tensors), strict=True))


def standardise_positions(x: Tensor, gain: float, eps: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """``gain * (x - mean) / sqrt(var + eps)`` over the channels of each position, biased, with mean and root ``(N, 1, *)``.

    None: no kernel.
    """
    if (maps := _maps(x)) is None:
        return None
    shape = (len(x), 1, *x.shape[2:])
    y, mean, inverse = (
        torch.empty_like(x),
        x.new_empty(shape, dtype=torch.float32),
        x.new_empty(shape, dtype=torch.float32),
    )
    scale = torch.full((mean[0].numel(),), gain)
    shift = _standard(len(scale), scale.dtype)[0]
    outputs = zip(y.flatten(2).unbind(), mean.flatten(1).unbind(), inverse.flatten(1).unbind(), strict=True)
    for (x_n,), out in zip(maps, outputs, strict=True):
        torch.native_batch_norm(x_n, scale, shift, None, None, True, 0.0, eps, out=out)
    return y, mean, inverse.reciprocal_()


def standardise_positions_backward(dy: Tensor, x: Tensor, gain: float, mean: Tensor, std: Tensor) -> Tensor | None:
    """What :func:`standardise_positions` owes to its input. None: no kernel."""
    if (maps := _maps(x, dy)) is None:
        return None
    dx, inverse = torch.empty_like(x), std.reciprocal()
    scale = torch.full((mean[0].numel(),), gain)
    moments = zip(mean.flatten(1).unbind(), inverse.flatten(1).unbind(), strict=True)
    for (x_n, dy_n), out, (mean_n, inverse_n) in zip(maps, dx.flatten(2).unbind(), moments, strict=True):
        found = torch.ops.aten.native_batch_norm_backward.default(
            dy_n, x_n, scale, None, None, mean_n, inverse_n, True, 0.0, [True, False, False]
        )
        out.copy_(found[0])
    return dx
