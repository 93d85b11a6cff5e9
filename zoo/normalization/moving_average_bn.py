"""Moving Average Batch Normalization: moving statistics in the backward pass, too (Yan et al., arXiv 2001.06838)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization import _kernels
from zoo.normalization._affine import affine, combine, scale_shift, sums
from zoo.normalization._function import call
from zoo.normalization._statistics import check_batch, check_input, kept, recomputing, second_moment
from zoo.numerics import wide


class _MovingNormalise(torch.autograd.Function):
    r""":math:`y = \gamma r x / \chi + b`, whose derivative uses a moving average of the gradient's statistic.

    ``ratio`` is :math:`r / \chi` and ``var`` :math:`\chi^2`, both ``(1, C)``. ``store`` keeps the last m values of
    :math:`E[\partial L/\partial z \cdot z]`, ``slot`` ``(m, 1)`` marks the row of this step and ``moving`` says whether the
    average of all rows or the current value is used.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, ratio: Tensor, var: Tensor, store: Tensor, slot: Tensor, moving: Tensor
    ) -> Tensor:
        return affine(x, weight * ratio, bias.to(ratio.dtype).unsqueeze(0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, weight, _, ratio, var, store, slot, moving = inputs
        ctx.save_for_backward(x, weight, ratio, var, slot, moving)
        ctx.store = store  # written in backward, so autograd must not check its version

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, ratio, var, slot, moving = ctx.saved_tensors
        along, total, room = sums(dy, x, 1)
        scale, dweight = weight * ratio, along * ratio
        now = weight * dweight * (x.shape[1] / x.numel())  # E[g_z z], g_z = weight * r * dy
        with torch.no_grad():
            store = torch.where(slot, now, ctx.store)
            ctx.store.copy_(store)
            statistic = torch.where(moving, store.mean(0), now)
        dx = combine(dy, scale, x, (statistic / var).neg(), None, room)
        return dx, dweight.squeeze(0), total.squeeze(0), None, None, None, None, None


class MovingAverageBatchNorm2d(nn.Module):
    r"""MABN of ``(N, C, *)``: divide by a moving second moment, centre nothing; use it after :class:`CentredConv2d`.

    .. math:: \chi_t^2 = \frac1m \sum_{s=0}^{m-1} E_B[x_{t-s}^2] + \epsilon, \quad
              r = \mathrm{clip}_{[1/\lambda, \lambda]}\Big(\frac{\chi_t}{\hat\chi}\Big), \quad
              y = \gamma r \frac{x}{\chi_t} + \beta

    .. math:: \frac{\partial L}{\partial x} = \frac{1}{\chi_t}\Big(g_z - z \cdot \frac1m \sum_s E_B[g_z z]_{t-s}\Big),
              \quad z = x / \chi_t, \; g_z = \gamma r \frac{\partial L}{\partial y}

    During warm-up both averages hold the current batch only (then this is batch normalization without a mean, exact
    gradient included), and ``r`` is 1 until ``clip_after`` steps. :math:`\hat\chi^2` is an exponential average with
    ``decay``; evaluation is :math:`\gamma x / \sqrt{\hat\chi^2 + \epsilon} + \beta`.

    Args:
        num_channels: C.
        buffer_size: m; the authors' code takes simulated batch / real batch (16 for 32 out of 2).
        eps: added to the second moments.
        decay: kept share of the exponential average per step (paper: 0.98).
        warmup: steps with the statistics of the current batch only; at least ``buffer_size`` (code: 100).
        clip: lambda (paper: 5).
        clip_after: first step whose correction ``r`` may differ from 1 (code: the larger of 1000 and ``warmup``).

    State: ``running_var``, ``square_store`` and ``gradient_store`` ``(m, C)``, ``num_batches_tracked``. The gradient's
    store is written during ``backward``; call backward once per training forward pass. A repeated forward pass of
    activation checkpointing moves nothing. Each process of DDP has its own stores: pass ``broadcast_buffers=False``.
    No second derivatives through the moving average.

    Raises:
        ValueError: sizes or decay out of range; input of another shape. TypeError: integer input.
    """

    ndims: tuple[int, ...] = (2, 3, 4, 5)
    running_var: Tensor
    square_store: Tensor
    gradient_store: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_channels: int,
        buffer_size: int = 16,
        eps: float = 1e-5,
        decay: float = 0.98,
        warmup: int = 100,
        clip: float = 5.0,
        clip_after: int = 1000,
    ) -> None:
        super().__init__()
        if buffer_size < 1 or not 0 <= decay < 1 or clip < 1:
            raise ValueError(
                f"moving_average_bn needs buffer_size >= 1, decay in [0, 1) and clip >= 1, received "
                f"{buffer_size}, {decay} and {clip}"
            )
        self.num_channels, self.buffer_size, self.eps, self.decay = num_channels, buffer_size, eps, decay
        self.warmup, self.clip, self.clip_after = max(warmup, buffer_size), clip, max(clip_after, warmup)
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("square_store", torch.zeros(buffer_size, num_channels))
        self.register_buffer("gradient_store", torch.zeros(buffer_size, num_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        check_input("moving_average_bn", x, self.num_channels, self.ndims)
        if not self.training:
            scale, shift = self.eval_affine()
            return scale_shift(x, scale[None], shift[None])
        check_batch("moving_average_bn", x)
        again = recomputing()
        with torch.no_grad():
            step = self.num_batches_tracked - 1 if again else self.num_batches_tracked  # steps before this one
            rows = (
                _kernels.counting(self.buffer_size)
                if _kernels.fits(x)
                else torch.arange(self.buffer_size, device=x.device)
            )
            slot = rows.unsqueeze(1) == step % self.buffer_size
            moving, corrects = step >= self.warmup, step >= self.clip_after
            square = second_moment(x)
            store = torch.where(slot, square, self.square_store)
            moved = torch.where(moving, store.mean(0), square)
            running = wide(self.running_var)
            if again:
                running = (running - (1 - self.decay) * moved) / max(self.decay, 1e-12)
            var = (moved + self.eps).unsqueeze(0)
            r = (var / (running + self.eps)).sqrt_().clamp_(1 / self.clip, self.clip)
            ratio = torch.where(corrects, r, 1.0) * var.rsqrt()
            if not again:
                self.square_store.copy_(store)
                self.running_var.lerp_(moved.to(self.running_var.dtype), 1 - self.decay)
                self.num_batches_tracked.add_(1)
            ratio, var, slot, moving = kept(ratio, var, slot, moving)
        return call(_MovingNormalise, x, self.weight, self.bias, ratio, var, self.gradient_store, slot, moving)

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        return self.weight * (self.running_var + self.eps).rsqrt(), self.bias

    def extra_repr(self) -> str:
        return f"{self.num_channels}, buffer_size={self.buffer_size}, eps={self.eps}, decay={self.decay}"


class CentredConv2d(nn.Conv2d):
    r"""Convolution whose filters have mean zero: :math:`W_o - \bar W_o`, over input channels and window.

    Same arguments as ``nn.Conv2d`` and its initialisation (the authors' class draws from N(0, 1)). With input that is
    alike over a window, the output is centred, which is why MABN need not subtract a mean.
    """

    def centred_weight(self) -> Tensor:
        """``(O, I / groups, kh, kw)`` with mean 0 over all but the first dimension."""
        return self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.centred_weight(), self.bias)


class CentredLinear(nn.Linear):
    """Linear layer whose rows have mean zero: what :class:`CentredConv2d` is for maps of 1 x 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight - self.weight.mean(dim=1, keepdim=True), self.bias)
