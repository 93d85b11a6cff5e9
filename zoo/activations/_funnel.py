"""The plain funnel in training as one operator: it keeps its input alone and computes the rest again on the way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.numerics import without_autocast

#: Values worked on at a time, about 1 MB in float32: a part of a batch that stays in a core's cache between passes.
PART = 2**18


def composed(x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """The same by autograd: depthwise convolution, BatchNorm by batch statistics, maximum. For higher derivatives."""
    z = F.conv2d(x, weight.to(x.dtype), None, 1, _padding(weight), 1, x.shape[1])
    return torch.maximum(x, F.batch_norm(z, None, None, gain, shift, True, 0.0, eps).to(x.dtype))


def _padding(weight: Tensor) -> list[int]:
    return [k // 2 for k in weight.shape[2:]]


def _parts(x: Tensor) -> list[slice]:
    """Slices of the batch of at most ``PART`` values, at least one sample each."""
    step = max(1, PART // max(1, x[0].numel()))
    return [slice(i, i + step) for i in range(0, x.shape[0], step)]


def _accumulation(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _column(v: Tensor) -> Tensor:
    return v.view(1, -1, 1, 1)


@torch.library.custom_op("zoo::funnel", mutates_args=())
def funnel(x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""``max(x, BN(weight * x))`` by batch statistics.

    Args:
        x: ``(N, C, H, W)``.
        weight: windows ``(C, 1, k, k)``, centred.
        gain, shift: of the BatchNorm, ``(C,)``.
        eps: of the BatchNorm.

    Returns:
        ``y`` of the shape and type of ``x``; mean and biased variance of ``weight * x``, ``(C,)``, at least float32.
    """
    wide, channels = _accumulation(x), x.shape[1]
    weight, gain, shift = weight.to(x.dtype), gain.to(wide), shift.to(wide)
    mean = torch.zeros(channels, dtype=wide, device=x.device)
    moment = torch.zeros_like(mean)  # sum of squared deviations
    responses: list[tuple[slice, Tensor, Tensor]] = []  # each part's, about the mean of that part
    seen = 0
    with without_autocast(x.device.type):
        for part in _parts(x):
            z = F.conv2d(x[part], weight, None, 1, _padding(weight), 1, channels).to(wide)
            n = z.numel() // channels
            own = z.sum((0, 2, 3)) / n
            responses.append((part, z.sub_(_column(own)), own))
            # Chan's rule joins parts without ever forming E z^2 - (E z)^2.
            moment += torch.linalg.vector_norm(z, dim=(0, 2, 3)).square_()
            step = own - mean
            moment += step.square() * (seen * n / (seen + n))
            mean += step * (n / (seen + n))
            seen += n
        var = moment / seen
        scale = gain * torch.rsqrt(var + eps)
        y = torch.empty_like(x)
        while responses:
            part, z, own = responses.pop()  # the last part is still in cache; memory is given back on the way
            t = z.mul_(_column(scale)).add_(_column((own - mean) * scale + shift)).to(x.dtype)
            torch.maximum(x[part], t, out=y[part])
    return y, mean, var


@funnel.register_fake
def _(x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[1], dtype=_accumulation(x))
    return torch.empty_like(x), mean, torch.empty_like(mean)


@torch.library.custom_op("zoo::funnel_backward", mutates_args=())
def funnel_backward(
    grad: Tensor, x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Gradients of :func:`funnel` for ``x``, ``weight``, ``gain`` and ``shift``.

    .. math:: h = (w * x - \mu) / \sigma, \quad \tilde g = g\,[\gamma h + \beta > x], \quad
              g_z = \frac{\gamma}{\sigma} \Bigl(\tilde g - \tfrac1n \sum \tilde g - \tfrac hn \sum \tilde g h\Bigr)

    and ``g_z`` goes back through the convolution, ``g - \tilde g`` straight to ``x``. A tie halves the gradient, as
    ``torch.maximum`` does.
    """
    wide, channels = _accumulation(x), x.shape[1]
    window, padding = weight.to(x.dtype), _padding(weight)
    b1 = shift.to(wide)
    inverse = torch.rsqrt(var + eps)
    scale = gain.to(wide) * inverse
    centred = []
    grad_x = torch.empty_like(x)  # holds twice the funnel's share of the gradient until the sums are known
    grad_gain, grad_shift = torch.zeros_like(mean), torch.zeros_like(mean)
    with without_autocast(x.device.type):
        for part in _parts(x):
            c = F.conv2d(x[part], window, None, 1, padding, 1, channels).to(wide).sub_(_column(mean))
            centred.append(c)
            t = (c * _column(scale)).add_(_column(b1)).to(x.dtype)  # addcmul broadcasts at half this speed
            wins = t.sub_(x[part]).sign_()
            twice = torch.addcmul(grad[part], grad[part], wins, out=grad_x[part])
            grad_shift += twice.sum((0, 2, 3), dtype=wide)
            grad_gain += (twice * c).sum((0, 2, 3))
        n = x.numel() // channels
        grad_shift *= 0.5
        grad_gain *= inverse * 0.5
        slope, level = _column(-grad_gain / n * inverse), _column(-grad_shift / n)
        grad_weight = torch.zeros_like(weight, dtype=wide)
        # The gradient of the response is scale * back; scale, one number a channel, goes into the window instead.
        scaled = (weight * scale.view(-1, 1, 1, 1)).to(x.dtype)
        for part in reversed(_parts(x)):
            # In place on the centred response, which nobody reads again.
            back = centred.pop().mul_(slope).add_(level).add_(grad_x[part], alpha=0.5).to(x.dtype)
            through, own, _ = torch.ops.aten.convolution_backward(
                back, x[part], scaled, None, [1, 1], padding, [1, 1], False, [0, 0], channels, [True, True, False]
            )
            grad_weight += own
            torch.sub(grad[part], grad_x[part], alpha=0.5, out=grad_x[part]).add_(through)
        grad_weight *= scale.view(-1, 1, 1, 1)
    return grad_x, grad_weight.to(weight.dtype), grad_gain.to(gain.dtype), grad_shift.to(shift.dtype)


@funnel_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(gain), torch.empty_like(shift)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, gain, shift, ctx.eps = inputs
    ctx.save_for_backward(x, weight, gain, shift, *output[1:])


def _go_back(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    x, weight, gain, shift, mean, var = ctx.saved_tensors
    if torch.is_grad_enabled():  # create_graph=True: someone will differentiate again
        wanted = [t for t, want in zip((x, weight, gain, shift), ctx.needs_input_grad, strict=False) if want]
        found = iter(torch.autograd.grad(composed(x, weight, gain, shift, ctx.eps), wanted, grad, create_graph=True))
        return (*(next(found) if want else None for want in ctx.needs_input_grad[:4]), None)
    return (*funnel_backward(grad, x, weight, gain, shift, mean, var, ctx.eps), None)


funnel.register_autograd(_go_back, setup_context=_keep)
