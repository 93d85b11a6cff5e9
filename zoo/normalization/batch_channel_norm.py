"""Batch-Channel Normalization: a batch norm, true or estimated, before group norm (Qiao et al., arXiv 1911.09738)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from zoo.normalization import _kernels
from zoo.normalization._affine import affine, combine, observe, sample_moments, scale_shift, sums
from zoo.normalization._function import traced
from zoo.normalization._statistics import (
    channel_moments,
    check_batch,
    check_input,
    check_statistics,
    kept,
    recomputing,
)


class EstimatedBatchNorm(nn.Module):
    r"""Batch norm of ``(N, C, *)`` that normalises with its running estimates in training, too.

    .. math:: \hat\sigma^2 \leftarrow (1 - \lambda)\hat\sigma^2 + \lambda E_B[(x - \hat\mu_{old})^2], \quad
              \hat\mu \leftarrow (1 - \lambda)\hat\mu + \lambda \mu_B, \quad
              y = \gamma \frac{x - \hat\mu}{\sqrt{\hat\sigma^2 + \epsilon}} + \beta

    The variance is centred at the mean before this step, so it holds the square of the mean's drift. No gradient flows
    through the estimates: the layer is an affine map per channel that moves with the data, and a batch of one works.

    Args:
        num_channels: C.
        eps: inside the root.
        momentum: lambda, the speed of the estimates. The authors' class starts it at 0 in a buffer that nothing in
            their repository sets, so theirs never leave mean 0 and variance 1; 0 does the same here.
        affine: gain and shift per channel.

    Raises:
        ValueError: ``momentum`` outside [0, 1], input of another shape. TypeError: integer input.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"estimated batch norm needs a momentum in [0, 1], received {momentum}")
        self.num_channels, self.eps, self.momentum = num_channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        check_input("estimated batch norm", x, self.num_channels, (2, 3, 4, 5))
        mean, var = self.running_mean, self.running_var
        if self.training:
            check_batch("estimated batch norm", x)
            if not recomputing():
                with torch.no_grad():
                    self._move(*channel_moments(x))
            mean, var = kept(mean.clone(), var.clone())  # the next step moves the buffers before a late backward
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)

    def _move(self, batch_mean: Tensor, batch_var: Tensor) -> None:
        """Move the estimates by a batch with these moments, ``(C,)``."""
        mean, var = self.running_mean, self.running_var
        # E[(x - m)^2] = Var[x] + (E[x] - m)^2
        about_old = batch_var + (batch_mean - mean).square()
        var.lerp_(about_old.to(var.dtype), self.momentum)
        mean.lerp_(batch_mean.to(mean.dtype), self.momentum)
        self.num_batches_tracked.add_(1)

    def moved(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Moments ``(C,)`` that a step normalises with whose samples have these, ``(N, C)``; moves the estimates."""
        if not recomputing():
            self._move(*_pooled(mean, var))
        running_mean, running_var = kept(self.running_mean.clone(), self.running_var.clone())
        return running_mean.to(mean.dtype), running_var.to(mean.dtype)

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before."""
        scale = (self.running_var + self.eps).rsqrt()
        scale = scale if self.weight is None else self.weight * scale
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else self.bias + shift

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, momentum={self.momentum}"


class BatchChannelNorm2d(nn.Module):
    r"""BCN of ``(N, C, *)``: :math:`y = \gamma_g \, \mathrm{GN}_G(\mathrm{BN}(x)) + \beta_g`.

    The inner norm has gain and shift per channel, the outer one **per group**: ``G`` numbers, as the authors have it
    (``nn.GroupNorm`` has ``C``). The batch statistics keep units away from being switched off for every input. For
    small batches take ``estimated``.

    Args:
        num_channels: C.
        num_groups: G of the outer norm (code: 32).
        eps: of both norms.
        momentum: of the inner norm's running values.
        estimated: :class:`EstimatedBatchNorm` in place of batch statistics.
        per_channel: give the outer norm ``C`` gains, as re-implementations do; other checkpoint, more parameters.

    Raises:
        ValueError: channels that do not divide into the groups, input of another shape, or, without ``estimated``, one
            value per channel in training. TypeError: integer input.
    """

    def __init__(
        self,
        num_channels: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        estimated: bool = False,
        per_channel: bool = False,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"batch_channel_norm: {num_channels} channels do not divide into {num_groups} groups; "
                f"allowed: {', '.join(str(g) for g in range(1, num_channels + 1) if num_channels % g == 0)}"
            )
        self.num_channels, self.num_groups, self.eps, self.per_channel = num_channels, num_groups, eps, per_channel
        if estimated:
            self.bn: nn.Module = EstimatedBatchNorm(num_channels, eps, momentum)
        else:
            self.bn = _AnyBatchNorm(num_channels, eps, momentum)
        size = num_channels if per_channel else num_groups
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        check_input("batch_channel_norm", x, self.num_channels, (2, 3, 4, 5))
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if not (self.training and self.bn.training and isinstance(self.bn, EstimatedBatchNorm | _AnyBatchNorm)):
            if not self.per_channel:
                each = self.num_channels // self.num_groups
                weight, bias = weight.repeat_interleave(each), bias.repeat_interleave(each)
            return F.group_norm(self.bn(x), self.num_groups, weight, bias, self.eps)
        # Both norms are affine given the moments of each sample and channel: one pass for these, one to apply.
        check_batch("batch_channel_norm", x)
        if isinstance(self.bn, _AnyBatchNorm):
            check_statistics("batch_channel_norm", x)
        with torch.no_grad():
            mean, var = sample_moments(x)
            centre, spread = self.bn.moved(mean, var, x.numel() // self.num_channels)
            inverse = (spread + self.eps).rsqrt()
        estimated = isinstance(self.bn, EstimatedBatchNorm)
        parameters = (self.bn.weight, self.bn.bias, weight, bias)
        if traced():
            fixed = (centre, inverse) if estimated else (None, None)
            return _terms(x, *fixed, self.num_groups, self.eps, *parameters)
        moments = (mean, var, centre, inverse)
        y: Tensor = _TwoNorms.apply(x, *moments, estimated, self.num_groups, self.eps, *parameters)
        return y

    def extra_repr(self) -> str:
        return f"{self.num_channels}, num_groups={self.num_groups}, eps={self.eps}"


class _AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """``nn.BatchNorm2d`` for any number of positions, whose training step can go by the moments of each sample."""

    def _check_input_dim(self, x: Tensor) -> None:
        if self.training:
            check_statistics("batch_channel_norm", x)

    def moved(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Moments ``(C,)`` of a step whose samples have these, ``(N, C)``; moves the running values.

        ``count`` is the number of values per channel. A step repeated by activation checkpointing moves nothing.
        """
        mean, var = _pooled(mean, var)
        if not recomputing():
            unbiased = var * (count / (count - 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)  # type: ignore
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)  # type: ignore
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return mean, var


def _pooled(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Moments ``(C,)`` of all samples from those of each, ``(N, C)``."""
    if (found := _kernels.pooled(mean, var)) is not None:
        return found
    centre = mean.mean(0)
    return centre, torch.addcmul(var, mean - centre, mean - centre).mean(0)


def _both(
    mean: Tensor, var: Tensor, centre: Tensor, inverse: Tensor, parameters: tuple[Tensor, ...], groups: int, eps: float
) -> tuple[Tensor, ...]:
    """What both norms do to a sample whose moments are ``mean`` and ``var``, ``(N, C)``.

    The inner one scales by ``a``, ``(G, C / G)``; ``off`` is the mean of its output, taken from that of the group, and ``r``
    the inverse deviation ``(N, G, 1)`` of the groups. ``scale`` and ``shift`` ``(N, C)`` do both.
    """
    a = parameters[0] * inverse
    inner = torch.addcmul(parameters[1], mean - centre, a).view(len(mean), groups, -1)
    off = inner - inner.mean(2, keepdim=True)
    spread = torch.addcmul((var * (a * a)).view_as(off), off, off)
    r = (spread.mean(2, keepdim=True) + eps).rsqrt()
    gain, shift = (p.view(groups, -1) for p in parameters[2:])
    a, outer = a.view(groups, -1), gain * r
    start = torch.addcmul(off, mean.view_as(off), a, value=-1)
    return a, off, r, outer, (a * outer).view_as(mean), torch.addcmul(shift, start, outer).view_as(mean)


def _terms(
    x: Tensor, centre: Tensor | None, inverse: Tensor | None, groups: int, eps: float, *parameters: Any
) -> Tensor:
    """Both norms in operations that may be differentiated any number of times, and compiled.

    ``centre`` and ``inverse`` are estimates that no gradient flows through; None: moments of the batch.
    """
    x, mean, var = observe(x)
    if centre is None or inverse is None:
        centre, spread = _pooled(mean, var)
        inverse = (spread + eps).rsqrt()
    *_, scale, shift = _both(mean, var, centre, inverse, parameters, groups, eps)
    return scale_shift(x, scale, shift)


class _TwoNorms(Function):
    r"""Both norms with the gradient in closed form, on the sums of ``dy`` and ``dy * x`` over each sample and channel.

    With z between them, :math:`z - \kappa = a (x - \mu) + o` where :math:`\mu` is the mean of sample and channel,
    :math:`\hat y = (z - \kappa) r`: :math:`\partial z = r \gamma_g \partial y + u (z - \kappa) + t` where
    :math:`u = -r^2 E[\gamma_g \hat y \partial y]` and :math:`t = -r E[\gamma_g \partial y]` (means over the group), and
    :math:`\partial x` follows from :math:`\partial z` as in batch norm, or is :math:`a \partial z` with estimates.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, centre: Tensor, inverse: Tensor, estimated: bool, groups: int,
        eps: float, *parameters: Tensor,
    ) -> Tensor:  # fmt: skip
        *parts, scale, shift = _both(mean, var, centre, inverse, parameters, groups, eps)
        ctx.save_for_backward(x, mean, var, centre, inverse, *parameters, *parts, scale)
        ctx.how = estimated, groups, eps
        return affine(x, scale, shift)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, var, centre, inverse, *rest = ctx.saved_tensors
        parameters, (a, off, r, outer, scale) = rest[:4], rest[4:]
        estimated, groups, eps = ctx.how
        if torch.is_grad_enabled():
            fixed = (centre, inverse) if estimated else (None, None)
            y = _terms(x, *fixed, groups, eps, *parameters)
            dx, *grads = torch.autograd.grad(y, (x, *parameters), dy, create_graph=True, materialize_grads=True)
            return dx, *[None] * 7, *grads
        n, positions, gain = len(x), x.shape[2:].numel(), parameters[2].view(groups, -1)
        along, total, room = sums(dy, x)
        # Sums over positions of dy * (x - mu), of dy * y_hat and of dy.
        along, total = torch.addcmul(along, mean, total, value=-1).view_as(off), total.view_as(off)
        across = torch.addcmul(off * total, a, along).mul_(r)
        both = torch.stack((across, total))
        # u and t, and u o + t, times positions: a group has positions * C / G values.
        u, t = ((gain * both).sum(3, keepdim=True) * (r * (-1 / a.shape[1]))).unbind()
        u = u * r
        between = torch.addcmul(t, u, off)
        # Sums of dz and of dz * (x - centre).
        dz = torch.addcmul(between, outer, total)
        dz_x = torch.addcmul(u * (a * var.view_as(off)), outer, along).addcmul_((mean - centre).view_as(off), dz)
        dweight, dbias = dz_x.sum(0).view_as(inverse) * inverse, dz.sum(0)
        slope, constant = u * (a * a), between * a
        if not estimated:
            through = a * (inverse * dweight).view_as(a) * (1 / n)
            constant = torch.addcmul(constant, a, dbias, value=-1 / n)
            constant = torch.addcmul(constant, slope, mean.view_as(off), value=-1).addcmul_(through, centre.view_as(a))
            slope = slope - through
        else:
            constant = torch.addcmul(constant, slope, mean.view_as(off), value=-1)
        slope, constant = (v.view_as(mean) * (1 / positions) for v in (slope, constant))
        dx = combine(dy, scale, x, slope, constant, room)
        outer_grads = (v.sum_to_size(gain.shape).flatten() for v in both.sum(1).unbind())
        return dx, *[None] * 7, dweight, dbias.flatten(), *outer_grads
