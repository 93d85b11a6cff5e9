"""Autograd functions at the price of a Python call."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
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


def call(function: type[Function], *inputs: Any) -> Any:
    """``function.apply(*inputs)`` for a function with ``setup_context``.

    That form, which ``torch.func`` needs, binds its arguments by signature at every call: 80 us (torch 2.15) against 9 of
    the older form. A norm of a small map takes 1000.
    """
    if traced():
        return function.apply(*inputs)
    return _joined(function).apply(*inputs)
