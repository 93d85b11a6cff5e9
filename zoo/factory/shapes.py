"""Subclasses made at run time that keep a layer's parameter names while changing what surrounds its forward.

A wrapper module would rename ``bn1.weight`` to ``bn1.norm.weight``. A subclass of the layer's own class does not:
checkpoints keep their keys and ``isinstance(layer, GroupNorm)`` stays true.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor, nn


class _Derived:
    """Pickle and deepcopy by recipe: the class itself has no importable name."""

    _recipe: tuple[str, type]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _revive, self._recipe, self.__dict__


def _revive(recipe: str, base: type) -> Any:
    cls: Any = _RECIPES[recipe](base)
    return cls.__new__(cls)


@lru_cache(maxsize=512)
def channels_last(base: type) -> type:
    """``base`` for ``(N, *, C)``: a view as ``(N, C, L, 1)`` goes in, so 2-d layers serve tokens and NHWC maps."""

    def forward(self: Any, x: Tensor) -> Tensor:
        moved = x.movedim(-1, 1)
        y = base.forward(self, moved.reshape(*moved.shape[:2], -1, 1))  # type: ignore[attr-defined]
        return y.reshape(moved.shape).movedim(1, -1)

    return _derive("channels_last", base, "ChannelsLast", forward)


@lru_cache(maxsize=512)
def any_dims(base: type) -> type:
    """``base`` (a layer of 4-d maps) for ``(N, C)``, ``(N, C, L)`` and ``(N, C, D, H, W)``."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return base.forward(self, x.reshape(*x.shape[:2], -1, 1)).reshape(x.shape)  # type: ignore[attr-defined]

    return _derive("any_dims", base, "AnyDims", forward)


@lru_cache(maxsize=512)
def with_act(base: type) -> type:
    """``base`` followed by the ``drop`` and ``act`` that timm's fused norm layers carry."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.act(self.drop(base.forward(self, x)))  # type: ignore[attr-defined]

    return _derive("with_act", base, "Act", forward)


@lru_cache(maxsize=512)
def same_padded(base: type) -> type:
    """``base`` (a convolution built with padding 0) behind TensorFlow's "same" padding of its input."""
    from timm.layers.padding import pad_same

    def forward(self: Any, x: Tensor) -> Tensor:
        return base.forward(self, pad_same(x, self.kernel_size, self.stride, self.dilation))  # type: ignore[attr-defined]

    return _derive("same_padded", base, "Same", forward)


def _derive(recipe: str, base: type, suffix: str, forward: Any) -> type:
    return type(
        f"{base.__name__}{suffix}",
        (_Derived, base),
        {"forward": forward, "_recipe": (recipe, base), "__module__": __name__, "__doc__": base.__doc__},
    )


_RECIPES = {"channels_last": channels_last, "any_dims": any_dims, "with_act": with_act, "same_padded": same_padded}


def recast(module: nn.Module, derive: Any) -> nn.Module:
    """Change the class of a finished layer to one derived from it."""
    module.__class__ = derive(type(module))
    return module
