"""timm's own converters of old or foreign key layouts, one architecture at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

Filter = Callable[[dict[str, Tensor], Any], dict[str, Tensor]]
_lock = threading.Lock()


@cache
def checkpoint_filter(architecture: str) -> Filter | None:
    """The filter that timm hands to its loader for ``architecture``, or None.

    timm keeps it inside the constructor (some are partials made there), so it is caught on the way: the architecture
    is built once on the meta device while this thread's call of timm's loader is answered here. Other threads that
    load through timm meanwhile get timm's loader.
    """
    import timm
    import torch
    from timm.models import _builder

    caught: list[Filter | None] = []
    owner = threading.get_ident()
    with _lock:
        ordinary = _builder.load_pretrained

        def catch(*args: Any, **kwargs: Any) -> None:
            if threading.get_ident() != owner:
                return ordinary(*args, **kwargs)
            caught.append(kwargs.get("filter_fn"))
            return None

        _builder.load_pretrained = catch
        try:
            with torch.device("meta"):
                timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay={"file": "caught-before-use"})
        finally:
            _builder.load_pretrained = ordinary
    return caught[0] if caught else None
