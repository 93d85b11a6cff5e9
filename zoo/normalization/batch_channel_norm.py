"""Batch-Channel Normalization: a batch norm, true or estimated, before group norm (Qiao et al., arXiv 1911.09738)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization._affine import observe, scale_shift
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

    def training_affine(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of a training step whose samples have these moments, ``(N, C)``; moves the estimates."""
        if not recomputing():
            with torch.no_grad():
                centre = mean.mean(0)
                self._move(centre, (var + (mean - centre).square()).mean(0))
        running_mean, inverse = kept(self.running_mean.clone(), (self.running_var + self.eps).rsqrt())
        scale = inverse if self.weight is None else self.weight * inverse
        shift = -running_mean * scale
        return scale, shift if self.bias is None else self.bias + shift

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
        if not self.per_channel:
            each = self.num_channels // self.num_groups
            weight, bias = weight.repeat_interleave(each), bias.repeat_interleave(each)
        if not (self.training and self.bn.training and isinstance(self.bn, EstimatedBatchNorm | _AnyBatchNorm)):
            return F.group_norm(self.bn(x), self.num_groups, weight, bias, self.eps)
        # Both norms are affine given the moments of each sample and channel: one pass for these, one to apply.
        check_batch("batch_channel_norm", x)
        if isinstance(self.bn, _AnyBatchNorm):
            check_statistics("batch_channel_norm", x)
        x, mean, var = observe(x)
        scale, shift = self.bn.training_affine(mean, var, x.numel() // self.num_channels)
        inner = (mean * scale + shift).unflatten(1, (self.num_groups, -1))
        centre = inner.mean(2, keepdim=True)
        spread = ((var * scale.square()).view_as(inner) + (inner - centre).square()).mean(2, keepdim=True)
        inverse = (spread + self.eps).rsqrt().expand_as(inner).flatten(1)
        outer = weight * inverse
        return scale_shift(x, scale * outer, (shift - centre.expand_as(inner).flatten(1)) * outer + bias)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, num_groups={self.num_groups}, eps={self.eps}"


class _AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """``nn.BatchNorm2d`` for any number of positions, whose training step can go by the moments of each sample."""

    def _check_input_dim(self, x: Tensor) -> None:
        if self.training:
            check_statistics("batch_channel_norm", x)

    def training_affine(self, mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of a training step whose samples have these moments, ``(N, C)``; moves the running values.

        ``count`` is the number of values per channel. A step repeated by activation checkpointing moves nothing.
        """
        centre = mean.mean(0)
        spread = (var + (mean - centre).square()).mean(0)
        if not recomputing():
            with torch.no_grad():
                self.running_mean.lerp_(centre.to(self.running_mean.dtype), self.momentum)  # type: ignore
                sample_variance = spread * (count / (count - 1))
                self.running_var.lerp_(sample_variance.to(self.running_var.dtype), self.momentum)  # type: ignore
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * (spread + self.eps).rsqrt()
        return scale, self.bias - centre * scale
