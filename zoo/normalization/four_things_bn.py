"""Four small changes to batch normalization (Summers & Dinneen, arXiv 1906.03548)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from zoo.normalization import _kernels
from zoo.normalization._affine import affine, combine, sample_moments, sums
from zoo.normalization._function import call
from zoo.normalization._statistics import check_input, check_statistics, per_channel, recomputing
from zoo.numerics import wide


def weighed_moments(
    x: Tensor, mean: Tensor, square: Tensor, example_weight: float, num_groups: int | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mix running moments with those of each example.

    .. math:: \mu_n = (1 - \alpha) m_x + \alpha E_{hw}[x_n], \quad
              \sigma_n^2 = (1 - \alpha) m_{x^2} + \alpha E_{hw}[x_n^2] - \mu_n^2

    Args:
        x: ``(N, C, *)``.
        mean, square: running ``E[x]`` and ``E[x^2]``, ``(C,)``.
        example_weight: alpha.
        num_groups: average both over groups of channels first.

    Returns:
        ``(mean, var)``, each ``(N, C, 1, ...)``; the variance is held at 0 or above.
    """
    data = wide(x).flatten(2) if x.dim() > 2 else wide(x)[..., None]
    first = torch.lerp(mean.to(data.dtype).expand(len(x), -1), data.mean(2), example_weight)
    second = torch.lerp(square.to(data.dtype).expand(len(x), -1), data.square().mean(2), example_weight)
    if num_groups is not None and num_groups != x.shape[1]:
        each = x.shape[1] // num_groups
        first = first.unflatten(1, (num_groups, each)).mean(2).repeat_interleave(each, 1)
        second = second.unflatten(1, (num_groups, each)).mean(2).repeat_interleave(each, 1)
    shape = (*first.shape, *(1,) * (x.dim() - 2))
    return first.view(shape), (second - first.square()).clamp(min=0).view(shape)


def _pooled(v: Tensor) -> Tensor:
    """Average ``(size, ghosts, groups, C / groups)`` over the samples of each ghost batch and the channels of each group."""
    return v.mean((0, 3), keepdim=True)


class _GhostGroupNorm(Function):
    r"""``(y, mean, var)``: standardised over ghost batch and group, and the moments of what shares a channel's sums.

    Ghost batches without groups are batch norm's kernel over another view, or two passes for the moments and one for the
    map where memory has no such view. With groups, all that touches the data are sums of each sample and channel, which
    are put together to those of ghost batch and group S afterwards; so no memory order needs a copy. With
    :math:`g = \gamma\,\partial L / \partial y`,

    .. math:: \partial L / \partial x = \frac{1}{\sigma_S} (g - E_S[g] - \hat x\, E_S[g \hat x]).

    The moments are ``(N / size, C)``, with groups ``(N, C)``; second derivatives flow through them.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, size: int, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ghosts = len(x) // size
        if groups == len(weight):
            if (found := _kernels.batch_norm(x, weight, bias, eps, ghosts)) is not None:
                return found
            mean, var = sample_moments(x, ghosts)
            scale = weight * (var + eps).rsqrt()
            return affine(x, scale, torch.addcmul(bias, mean, scale, value=-1)), mean, var
        mean, var = sample_moments(x)
        shape = (size, ghosts, groups, -1)
        means, variances, weight, bias = (
            mean.view(shape),
            var.view(shape),
            weight.view(groups, -1),
            bias.view(groups, -1),
        )
        centre = _pooled(means)
        scale = weight * (_pooled(variances + (means - centre).square()) + eps).rsqrt()
        shift = bias - centre * scale
        return affine(x, *(v.expand_as(means).reshape(mean.shape) for v in (scale, shift))), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, _, *ctx.how = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, *output[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dmean: Tensor | None, dvar: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        size, groups, eps = ctx.how
        count = x.numel() // mean.numel()  # values that share moments
        if dy is None:
            dy = torch.zeros_like(x)
        if groups == len(weight):
            inverse = (var + eps).rsqrt()
            if dmean is None and dvar is None:
                found = _kernels.batch_norm_backward(dy, x, weight, mean, inverse)
                if found is not None:
                    return *found, None, None, None
            across, along, room = sums(dy, x, len(mean))
            across = torch.addcmul(across, mean, along, value=-1) * inverse  # sum of dy x_hat
            scale = weight * inverse
            slope = scale * inverse * across / -count
            constant = torch.addcmul(scale * along / count, slope, mean).neg()
        else:
            shape = (size, len(x) // size, groups, -1)
            means, gain = mean.view(shape), weight.view(groups, -1)
            centre = _pooled(means)
            inverse = (_pooled(var.view(shape) + (means - centre).square()) + eps).rsqrt()
            across, along, room = sums(dy, x)
            along = along.view(shape)
            across = torch.addcmul(across.view(shape), centre, along, value=-1) * inverse
            slope = inverse.square() * _pooled(gain * across) / -count
            constant = -slope * centre - inverse * _pooled(gain * along) / count
            scale, slope, constant = (v.expand_as(means).reshape(mean.shape) for v in (gain * inverse, slope, constant))
        if dmean is not None:
            constant = constant + dmean / count
        if dvar is not None:
            dvar = dvar * (2 / count)
            slope, constant = slope + dvar, constant - dvar * mean
        dweight, dbias = (v.sum((0, 1) if groups < len(weight) else 0).flatten() for v in (across, along))
        return combine(dy, scale, x, slope, constant, room), dweight, dbias, None, None, None


class FourThingsBatchNorm2d(nn.Module):
    r"""Batch norm of ``(N, C, *)`` with ghost batches, channel groups and inference example weighing.

    Training: statistics of ``ghost_size`` examples and one group of channels. Example ``i`` belongs to ghost batch
    ``i mod (N / ghost_size)``. Evaluation: :func:`weighed_moments`. The fourth change, decay of gain and shift, is
    :class:`GainBiasDecay`. Limits: ``ghost_size=None`` and no groups is batch norm; ``ghost_size=1`` is group norm (at
    evaluation only with ``example_weight=1``).

    Args:
        num_channels: C.
        ghost_size: examples that share statistics; ``None`` or more than the batch: all of it.
        num_groups: groups of channels that share statistics; ``None``: every channel has its own.
        example_weight: alpha, the example's share at evaluation; found on validation data, 0 is batch norm's rule.
        eps: inside the root.
        momentum: share of the new batch in the running moments (code: 0.01).

    State: ``running_mean`` and ``running_square`` (``E[x]``, ``E[x^2]`` of the whole batch), starting at 0 and 1.

    Raises:
        ValueError: groups that do not divide the channels, a batch that ``ghost_size`` does not divide, weights outside
            [0, 1], input of another shape, one value per statistic in training. TypeError: integer input.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(
        self,
        num_channels: int,
        ghost_size: int | None = None,
        num_groups: int | None = None,
        example_weight: float = 0.0,
        eps: float = 1e-5,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if num_groups is not None and (num_groups < 1 or num_channels % num_groups):
            raise ValueError(
                f"four_things_bn: {num_channels} channels do not divide into {num_groups} groups; "
                f"allowed: {', '.join(str(g) for g in range(1, num_channels + 1) if num_channels % g == 0)}"
            )
        if ghost_size is not None and ghost_size < 1:
            raise ValueError(f"four_things_bn needs ghost_size >= 1 or None, received {ghost_size}")
        _check_weight(example_weight)
        self.num_channels, self.ghost_size, self.num_groups = num_channels, ghost_size, num_groups
        self.example_weight, self.eps, self.momentum = example_weight, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_square", torch.ones(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_input("four_things_bn", x, self.num_channels, (2, 3, 4, 5))
        if not self.training:
            return self._evaluate(x)
        n, c = x.shape[:2]
        size = n if self.ghost_size is None else min(self.ghost_size, n)
        if n % max(size, 1):
            raise ValueError(
                f"four_things_bn: a batch of {n} does not divide into ghost batches of {size}; drop the last batch or "
                f"choose another ghost_size"
            )
        groups = self.num_groups or c
        check_statistics("four_things_bn", x, size * x.shape[2:].numel() * (c // groups))
        y, mean, var = call(_GhostGroupNorm, x, self.weight, self.bias, size, groups, self.eps)
        if not recomputing():
            with torch.no_grad():
                square = (var + mean.square()).mean(0)
                self.running_mean.lerp_(mean.mean(0).to(self.running_mean.dtype), self.momentum)
                self.running_square.lerp_(square.to(self.running_square.dtype), self.momentum)
        return y

    def _evaluate(self, x: Tensor) -> Tensor:
        if self.example_weight == 0 and self.num_groups in (None, self.num_channels):
            var = (self.running_square - self.running_mean.square()).clamp(min=0)
            return F.batch_norm(x, self.running_mean, var, self.weight, self.bias, False, 0.0, self.eps)
        mean, var = weighed_moments(x, self.running_mean, self.running_square, self.example_weight, self.num_groups)
        scale = per_channel(self.weight, x) * (var + self.eps).rsqrt()
        return torch.addcmul(per_channel(self.bias, x) - mean * scale, wide(x), scale).to(x.dtype)

    def eval_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` of the evaluation form ``x * scale + shift``, for folding into the layer before.

        Raises:
            ValueError: ``example_weight`` above 0 (evaluation looks at each example).
        """
        if self.example_weight > 0:
            raise ValueError(f"its evaluation depends on its own input (example_weight={self.example_weight})")
        mean, square = self.running_mean, self.running_square
        if self.num_groups is not None:
            each = self.num_channels // self.num_groups
            mean, square = (v.view(-1, each).mean(1).repeat_interleave(each) for v in (mean, square))
        scale = self.weight * ((square - mean.square()).clamp(min=0) + self.eps).rsqrt()
        return scale, self.bias - mean * scale

    def extra_repr(self) -> str:
        return (
            f"{self.num_channels}, ghost_size={self.ghost_size}, num_groups={self.num_groups}, "
            f"example_weight={self.example_weight}, eps={self.eps}, momentum={self.momentum}"
        )


def _check_weight(example_weight: float) -> None:
    if not 0 <= example_weight <= 1:
        raise ValueError(f"example_weight lies in [0, 1], received {example_weight}")


class _Weigh:
    """Pre-hook that maps the input so that a batch norm in evaluation normalises with the weighed moments.

    ``x' = (x - mu_n) * sqrt((v + eps) / (v_n + eps)) + m`` turns ``(x' - m) / sqrt(v + eps)`` into the wanted
    ``(x - mu_n) / sqrt(v_n + eps)``; a fused activation of the layer stays as it is.
    """

    def __init__(self, example_weight: float) -> None:
        self.example_weight = example_weight

    def __call__(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if module.training:
            return None
        x, *rest = args
        m, v = module.running_mean, module.running_var
        mean, var = weighed_moments(x, m, v + m.square(), self.example_weight)
        ratio = ((per_channel(v, x) + module.eps) / (var + module.eps)).sqrt()
        return (torch.addcmul(per_channel(m, x) - mean * ratio, wide(x), ratio).to(x.dtype), *rest)


def weigh_examples(module: nn.Module, example_weight: float = 0.1) -> nn.Module:
    """Inference example weighing for a model that is trained already: changes every batch norm in it, in place.

    Parameters, buffers and ``state_dict`` keys stay; training mode is untouched. Calling it again sets another weight,
    0 takes it off. Choose the weight on validation data; the paper's point is that this needs no training.

    Args:
        module: a model with batch norm layers that have running statistics (timm's fused ones included).
        example_weight: alpha of :func:`weighed_moments`.

    Returns:
        ``module``.

    Raises:
        ValueError: a weight outside [0, 1], or a model without such a layer.
    """
    _check_weight(example_weight)
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no batch norm layer with running statistics to weigh")
    for layer in layers:
        for key, hook in list(layer._forward_pre_hooks.items()):
            if isinstance(hook, _Weigh):
                del layer._forward_pre_hooks[key]
        if example_weight > 0:
            layer.register_forward_pre_hook(_Weigh(example_weight))
    return module


class GainBiasDecay(nn.Module):
    r"""Weight decay that pulls gains to 1 and shifts to 0: :math:`\frac\lambda2 \sum (\gamma - 1)^2 + \beta^2`.

    Takes the norm layers of a model (a 1-d ``weight`` in a batch, group, layer or instance norm, or in this file's
    layer). Leave these parameters out of the optimizer's own weight decay, which pulls gains to 0. The authors' layer
    reads the decay from an argument that it does not pass on, so as released it adds nothing.

    Args:
        weight_decay: lambda.

    Raises:
        ValueError: a negative decay; called on a model without gains or shifts.
    """

    def __init__(self, weight_decay: float = 1e-4) -> None:
        super().__init__()
        if weight_decay < 0:
            raise ValueError(f"weight_decay is at least 0, received {weight_decay}")
        self.weight_decay = weight_decay

    def forward(self, model: nn.Module) -> Tensor:
        kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, FourThingsBatchNorm2d)
        layers = [m for m in model.modules() if isinstance(m, kinds)]
        terms = [(m.weight - 1).square().sum() for m in layers if m.weight is not None]
        terms += [m.bias.square().sum() for m in layers if m.bias is not None]
        if not terms:
            raise ValueError(f"{type(model).__name__} has no normalization layer with a gain or a shift")
        return 0.5 * self.weight_decay * torch.stack(terms).sum()
