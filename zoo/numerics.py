"""Small numerical helpers that implementations of every category share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast off for ``device_type``; nothing to switch off on devices that have none (meta)."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def wide(x: Tensor) -> Tensor:
    """At least float32: half precision is widened, everything else is left alone."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def classes(target: Tensor, name: str) -> Tensor:
    """Integer classes of any width as int64, which torch's kernels index by; uint8 would be taken for a mask.

    Raises:
        TypeError: floating point, complex or bool.
    """
    if target.dtype == torch.int64:
        return target
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"{name} takes integer classes, received {target.dtype}; soft targets have no meaning here")
    return target.long()
