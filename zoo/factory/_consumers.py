"""Who reads a layer's output: one forward pass, watched at the level of single tensor operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


class Watch(TorchDispatchMode):
    """Records, while active, which watched module each operation on a watched tensor belongs to.

    Operators are seen below autograd, so functional calls, methods, views and custom functions all count; asking for a
    shape does not. Tensors are told apart by identity, and held so that no identity is used twice.

    Args:
        makers: modules whose outputs (and ``weight``) are followed.
        readers: modules whose inputs are looked up.
    """

    def __init__(self, makers: Iterable[nn.Module], readers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.makers, self.readers = list(makers), list(readers)
        self.calls: dict[nn.Module, int] = {}
        self.source: dict[nn.Module, nn.Module | None] = {}  # reader -> maker of its input
        self.input_shape: dict[nn.Module, torch.Size] = {}
        self.users: dict[nn.Module, set[nn.Module | None]] = {}  # maker -> readers; None: an operation outside of any
        self.weight_users: set[nn.Module] = set()  # makers whose weight something else reads
        self._made: dict[int, nn.Module] = {}
        self._weights = {id(m.weight): m for m in self.makers if isinstance(m.weight, Tensor)}
        self._held: list[Tensor] = []
        self._stack: list[nn.Module] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Watch:
        for module in {*self.makers, *self.readers}:
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls[module] = self.calls.get(module, 0) + 1
        given = list(tensors_in((args, kwargs)))
        if module in self.readers and given:
            self.source[module] = self._made.get(id(given[0]))
            self.input_shape[module] = given[0].shape
        self._stack.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()
        if module in self.makers and isinstance(output, Tensor):
            self._made[id(output)] = module
            self._held.append(output)

    def reads(self, tensors: Iterable[Tensor], reader: nn.Module | None) -> None:
        """Note that ``reader`` (None: something unknown) uses these tensors."""
        for tensor in tensors:
            if (maker := self._made.get(id(tensor))) is not None:
                self.users.setdefault(maker, set()).add(reader)
            if (owner := self._weights.get(id(tensor))) is not None and owner not in self._stack:
                self.weight_users.add(owner)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = next((m for m in reversed(self._stack) if m in self.readers), None)
        self.reads(tensors_in((args, kwargs or {})), inner)
        return func(*args, **(kwargs or {}))
