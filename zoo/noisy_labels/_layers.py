"""What :mod:`zoo.noisy_labels.layerwise` needs of a single layer: slopes and weighted gradients from what it read and got back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels._nodes import GROUPED

Kept = tuple[Tensor, Tensor]
Local = dict[str, Tensor]

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
NORMS: tuple[Any, ...] = (nn.LayerNorm, *GROUPED)
#: Exact types: a subclass may compute anything.
LAYERS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS, nn.Linear, *NORMS)
#: Elements of a temporary on a CPU: what fits its cache is faster than one map of the whole batch, whose memory is new each time.
PIECE = 2**18


def response(layer: Any, a: Tensor, direction: Local) -> Tensor:
    """``f(a; V)`` of a convolution or linear layer; parameters that are not trained count as zero."""
    v, bias = direction.get("weight"), direction.get("bias")
    v = torch.zeros_like(layer.weight) if v is None else v
    if type(layer) is nn.Linear:
        return F.linear(a, v, bias)
    return CONVOLUTIONS[type(layer)](a, v, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def normalized(layer: Any, a: Tensor) -> Tensor:
    if type(layer) is nn.LayerNorm:
        return F.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    return F.group_norm(a, layer.num_groups, eps=layer.eps)


def by_parameter(layer: Any, t: Tensor) -> Tensor:
    """Sum over all but the samples and the axes of a norm's parameters, ``(N, parameters)``."""
    count = layer.weight.numel()
    if type(layer) is nn.LayerNorm:
        return t.reshape(len(t), -1, count).sum(1)
    t = t.reshape(len(t), count, -1)
    return t @ t.new_ones(t.shape[2])  # over a short last axis a product is faster than a sum


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors in pieces of rows."""
    rows, largest = len(tensors[0]), max(t.numel() for t in tensors)
    if tensors[0].device.type != "cpu" or largest <= 2 * PIECE:
        yield tensors
    else:
        yield from zip(*(t.split(max(1, PIECE * rows // largest)) for t in tensors), strict=True)


def together(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def by_row(layer: Any, a: Tensor, b: Tensor) -> Kept:
    """Gradients of a norm's gain and shift from every row of its input."""
    scale = together([by_parameter(layer, normalized(layer, u).mul_(v)) for u, v in pieces(a, b)])
    return scale, by_parameter(layer, b)


def slopes(layer: Any, a: Tensor, b: Tensor, direction: Local) -> Tensor:
    """Part of a convolution or linear layer in the slope of every row of its input, ``(rows,)``."""
    return together([response(layer, u, direction).mul_(v).flatten(1).sum(1) for u, v in pieces(a, b)])


def wider(layer: Any, a: Tensor) -> bool:
    """Whether the kernel is wider than its map, where torch's gradient of it is slow on a CPU."""
    simple = layer.groups == 1 and {*layer.stride, *layer.dilation} == {1} and a.device.type == "cpu"
    return simple and all(k > n for k, n in zip(layer.kernel_size, a.shape[2:], strict=True))


def weigh(layer: Any, a: Tensor, b: Tensor) -> dict[str, Tensor | None]:
    """The sum over rows of the gradients of a convolution's or linear layer's parameters."""
    if type(layer) is nn.Linear:
        b, a = b.flatten(0, -2), a.flatten(0, -2)
        return {"weight": b.mT @ a, "bias": b.sum(0)}
    has_bias = layer.bias is not None
    if wider(layer, a):  # the same sum as a convolution, samples in the place of channels
        swapped = CONVOLUTIONS[type(layer)](a.transpose(0, 1), b.transpose(0, 1), None, 1, layer.padding)
        return {"weight": swapped.transpose(0, 1), "bias": b.flatten(2).sum((0, 2)) if has_bias else None}
    zeros = [0] * (a.ndim - 2)
    _, weight, bias = torch.ops.aten.convolution_backward(
        b, a, layer.weight, [len(layer.weight)] if has_bias else None,
        layer.stride, layer.padding, layer.dilation, False, zeros, layer.groups, [False, True, has_bias],
    )  # fmt: skip
    return {"weight": weight, "bias": bias}
