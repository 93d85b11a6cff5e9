"""What the layers with running statistics share: moments, input checks, and whether a forward pass is a repetition."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.normalization import _kernels
from zoo.numerics import wide


def reduced(x: Tensor) -> tuple[int, ...]:
    """All dimensions but the channels' of ``(N, C, *)``."""
    return (0, *range(2, x.dim()))


def per_channel(v: Tensor, x: Tensor) -> Tensor:
    """View ``(C,)`` so that it broadcasts against ``(N, C, *)``."""
    return v.view(1, -1, *(1,) * (x.dim() - 2))


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of ``(N, C, *)``, each ``(C,)`` and float32 at least.

    Two passes, so that nothing cancels; on a CPU that is several times faster than ``torch.var_mean`` over these dims.
    """
    if (found := _kernels.moments(x)) is not None:
        return found[0][0], found[1][0]
    x = wide(x)
    mean = x.mean(reduced(x))
    return mean, (x - per_channel(mean, x)).square().mean(reduced(x))


def second_moment(x: Tensor) -> Tensor:
    """``E[x^2]`` of every channel of ``(N, C, *)``, ``(C,)`` and float32 at least."""
    if x.dtype in _kernels.HALF and (found := _kernels.moments(x)) is not None:
        return torch.addcmul(found[1], found[0], found[0])[0]
    return wide(x).square().mean(reduced(x))


def check_input(name: str, x: Tensor, num_channels: int, ndims: tuple[int, ...]) -> None:
    """Refuse what the layer was not built for.

    Raises:
        TypeError: integer input.
        ValueError: another number of dimensions or of channels.
    """
    if not x.is_floating_point():
        raise TypeError(f"{name} needs floating-point input, received {x.dtype}")
    if x.dim() not in ndims or x.shape[1] != num_channels:
        allowed = " or ".join(f"{d}-d" for d in ndims)
        raise ValueError(f"{name} takes {allowed} input with {num_channels} channels, received {tuple(x.shape)}")


def check_statistics(name: str, x: Tensor, each: int | None = None) -> None:
    """Refuse a training batch with a single value per channel: its variance says nothing.

    Args:
        each: values that share a statistic, where that is not all of a channel.

    Raises:
        ValueError: one value per statistic, or none.
    """
    if (x.numel() // x.shape[1] if each is None else each) < 2:
        shared = "channel" if each is None else "statistic"
        raise ValueError(f"{name} needs more than one value per {shared} in training, received {tuple(x.shape)}")


def check_batch(name: str, x: Tensor) -> None:
    """Refuse an empty batch in training: its mean is not a number, and running values would keep that.

    Raises:
        ValueError: no values.
    """
    if x.numel() == 0:
        raise ValueError(f"{name} takes no statistics from an empty batch, received {tuple(x.shape)}")


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass, as activation checkpointing makes it.

    Running statistics have seen this batch then. Compiled graphs recompute without calling the layer again.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@torch.library.custom_op("zoo::kept", mutates_args=())
def _kept(values: list[Tensor]) -> list[Tensor]:
    return [v.clone() for v in values]


@_kept.register_fake
def _(values: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(v) for v in values]


def kept(*values: Tensor) -> list[Tensor]:
    """Small tensors that depend on a buffer which this forward pass changes, in a form that backward may rely on.

    A compiled backward recomputes cheap values from the graph's inputs, and takes a buffer's *changed* value for that
    (seen with torch 2.15: wrong gradients, no error). What an opaque operator returns is saved instead.
    """
    return _kept(list(values)) if torch.compiler.is_compiling() else list(values)
