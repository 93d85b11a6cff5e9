"""Autograd functions at the price of a Python call."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import _SingleLevelFunction


@cache
def _joined(function: type[Function]) -> type[Function]:
    """``function`` with ``forward`` and ``setup_context`` in one, as autograd had them first."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    parts = {"forward": staticmethod(forward), "setup_context": staticmethod(_SingleLevelFunction.setup_context)}
    return type(function.__name__, (function,), parts)


def traced() -> bool:
    """Whether a compiler or ``torch.func`` looks at what runs, and wants plain operations."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def stored(v: Tensor) -> Tensor:
    """``v``; compiled code stores it, and does not compute it again for every value that it is multiplied with.

    A compiler moves what follows a reduction into the loops that read it: here a root and a division a value. A view by
    strides is what inductor does not look through. They are worked out here: dynamo knows none in a backward pass.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return v
    strides = [1]
    for size in reversed(v.shape[1:]):
        strides.insert(0, strides[0] * size)
    return v.contiguous().as_strided(v.shape, strides)


def call(function: type[Function], *inputs: Any) -> Any:
    """``function.apply(*inputs)`` for a function with ``setup_context``.

    That form, which ``torch.func`` needs, binds its arguments by signature at every call: 80 us (torch 2.15) against 9 of
    the older form. A norm of a small map takes 1000.
    """
    if traced():
        return function.apply(*inputs)
    return _joined(function).apply(*inputs)
