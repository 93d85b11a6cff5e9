"""Build a model without paying for random numbers that a checkpoint is about to replace.

Under ``DeferredInit`` an in-place initialiser of a *parameter* is written down instead of run; buffers and all other
tensors are computed for real, so what is not in a checkpoint (non-persistent buffers: grids, masks, frequencies) is
right. A parameter that the checkpoint turns out not to hold gets its own initialisers replayed, in order. If the
construction reads a value that was left out (weight norm, copies of layers), ``consumed`` says so, and the caller
builds again without this mode. On the meta device neither is possible: buffers come without values there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: Tensor methods that overwrite or update a tensor in place, as initialisers use them.
_IN_PLACE = {
    "normal_", "uniform_", "fill_", "zero_", "copy_", "mul_", "add_", "sub_", "div_", "erfinv_", "clamp_", "clamp_min_",
    "clamp_max_", "bernoulli_", "exponential_", "log_normal_", "fill_diagonal_", "neg_", "sqrt_", "pow_", "abs_",
    "__setitem__", "__imul__", "__iadd__", "__isub__", "__itruediv__",
}  # fmt: skip
#: The functions of torch.nn.init ask the mode before they ask the tensor.
_INIT = {f for name, f in vars(nn.init).items() if name.endswith("_") and callable(f)}
#: They look at the shape, not at values.
_LIKE = {
    "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like",
    "new_empty", "new_zeros", "new_ones", "new_full", "new_tensor",
}  # fmt: skip
#: They turn values into Python objects.
_READS = {
    "item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__contains__", "equal",
    "allclose", "is_nonzero", "__repr__", "__format__",
}  # fmt: skip


class DeferredInit(TorchFunctionMode):
    """See the module. Use as a context around the construction, then ``replay`` for what was not loaded."""

    def __init__(self) -> None:
        super().__init__()
        #: storage address -> what should have happened to it; the first record keeps the storage alive.
        self._pending: dict[int, list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]] = {}
        #: storages that belong to parameters, by address, kept alive so that an address is not used twice.
        self._owned: dict[int, Tensor] = {}
        #: storages whose deferred initialisers read other deferred values.
        self._dependent: set[int] = set()
        #: a value that was left out has been read.
        self.consumed = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        name = getattr(func, "__name__", "")
        if not isinstance(target, Tensor):
            self._note_reads(args, kwargs)
            return func(*args, **kwargs)
        place = _address(target)
        if place and isinstance(target, nn.Parameter) and place not in self._owned:
            self._owned[place] = target
        if place in self._owned and (name in _IN_PLACE or func in _INIT):
            self._pending.setdefault(place, []).append((func, args, kwargs))
            if any(_address(t) in self._pending for t in _tensors((args[1:], kwargs)) if t is not target):
                self._dependent.add(place)
            return None if name == "__setitem__" else target
        result = func(*args, **kwargs)
        if place in self._pending:
            if name in _READS or (name not in _LIKE and any(_address(t) != place for t in _tensors(result))):
                self.consumed = True
            self._note_reads(args[1:], kwargs)
        elif self._pending:
            self._note_reads(args, kwargs)
        return result

    def _note_reads(self, args: Any, kwargs: Any) -> None:
        if self._pending and any(_address(t) in self._pending for t in _tensors((args, kwargs))):
            self.consumed = True

    def pending(self, tensor: Tensor) -> bool:
        """Whether an initialiser of ``tensor`` was left out."""
        return _address(tensor) in self._pending

    def replayable(self, tensor: Tensor) -> bool:
        """Whether ``replay`` gives ``tensor`` what an ordinary construction would have."""
        return not self.consumed and _address(tensor) not in self._dependent

    def replay(self, tensor: Tensor) -> None:
        """Run the initialisers of ``tensor`` that were left out, in their order."""
        with torch.no_grad():
            for func, args, kwargs in self._pending.pop(_address(tensor), ()):
                func(*args, **kwargs)


def _address(value: Any) -> int:
    """Where the values of a tensor lie; 0 for none (meta, empty, not a tensor)."""
    if not isinstance(value, Tensor):
        return 0
    try:
        return value.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # meta and other tensors without storage
        return 0


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _tensors(v)
