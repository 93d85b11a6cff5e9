"""Nodes of the graph of :mod:`zoo.noisy_labels.layerwise`: where it begins, where it ends, and group norms row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import GroupNorm
from torch import Tensor, nn

#: Exact types of group norms.
GROUPED: tuple[Any, ...] = (nn.GroupNorm, GroupNorm)
CHANGED = "the input of a {} was changed in place after the layer had read it: make the method with layerwise=False"


class Unsuitable(RuntimeError):
    """What a layer reads cannot be told apart by sample, or is gone when its gradient comes back."""


class Begin(torch.autograd.Function):
    """A tensor as it is, whose gradient is asked for as that of ``start``, ``()``, which is zero."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, start: Tensor) -> Tensor:
        ctx.mark_dirty(output)  # not a view, which may not be changed in place
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad.new_zeros(())


class Used(torch.autograd.Function):
    """A tensor as it is, with an error instead of a gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, start: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "the pass that gave these logits went backward already and cannot do so a second time: to differentiate through "
            "them make the method with layerwise=False"
        )


def shares_sums(layer: nn.Module, a: Tensor, output: Tensor) -> bool:
    """Whether :class:`Grouped` can take over: what the kernel kept is there, and nobody (a checkpoint) stands in between."""
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return (
        type(layer) in GROUPED
        and type(output.grad_fn).__name__ == "NativeGroupNormBackward0"
        and hooks is not None
        and hooks(True) is None
        and a.device.type == "cpu"
        and a.requires_grad
        and a.is_contiguous()
        and layer.weight is not None
    )


class Grouped(torch.autograd.Function):
    """The output of a group norm, as it is, whose backward pass gives the gradients of its parameters row by row.

    The kernel sums gradients of a channel's gain and shift over the batch. Samples laid side by side as channels of one sample
    leave it nothing to sum over, for no more work than the gradient of the input is.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        output: Tensor,
        layer: Any,
        mean: Tensor,
        rstd: Tensor,
        record: Callable[[Tensor, Tensor], None],
    ) -> Tensor:
        ctx.mark_dirty(output)
        ctx.layer, ctx.record = layer, record
        ctx.kept, ctx.version = [a.detach(), mean, rstd], a._version
        return output

    @staticmethod
    def backward(ctx: Any, b: Tensor) -> tuple[Tensor | None, ...]:
        layer, (a, mean, rstd) = ctx.layer, ctx.kept
        ctx.kept = None  # freed here, as the kernel's own would be
        if a._version != ctx.version:
            raise Unsuitable(CHANGED.format(type(layer).__name__))
        rows, channels = a.shape[:2]
        shape = rows, channels, a.shape[2:].numel()
        found = _short(layer, a.view(shape), b.reshape(shape), mean, rstd) if 1 < shape[2] < 8 else None
        if found is None:
            one = 1, rows * channels, shape[2]
            gain = layer.weight.detach().expand(rows, -1).reshape(-1)
            found = torch.ops.aten.native_group_norm_backward(
                b.reshape(one),
                a.view(one),
                mean.view(1, -1),
                rstd.view(1, -1),
                gain,
                *one,
                rows * layer.num_groups,
                [True, True, True],
            )
        grad, scale, shift = found
        ctx.record(scale.view(rows, -1), shift.view(rows, -1))
        return grad.view_as(a), *[None] * 5


def _short(layer: Any, a: Tensor, b: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for maps ``(N, C, L)`` shorter than a vector of the CPU, where its kernel takes three times as long."""
    gain, ones = layer.weight.detach(), a.new_ones(a.shape[2])
    mean, rstd = mean.view(-1, 1), rstd.view(-1, 1)
    normalized = (a.view(len(mean), -1) - mean).mul_(rstd)
    scale, shift = (b * normalized.view_as(b)) @ ones, b @ ones
    means = (torch.stack((scale, shift)) * gain).view(2, len(mean), -1).sum(2, keepdim=True).div_(-normalized.shape[1])
    grad = (b * gain.unsqueeze(1)).view_as(normalized)
    return grad.addcmul_(normalized, means[0]).add_(means[1]).mul_(rstd), scale, shift
