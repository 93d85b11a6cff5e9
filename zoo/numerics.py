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
