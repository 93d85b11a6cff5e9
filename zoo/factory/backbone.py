"""Build a backbone by timm's name or from zoo.models, with errors that teach."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from torch import nn

from zoo.errors import UnknownName
from zoo.factory.targets import call, load_target, unknown_argument


def is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name.partition(".")[0])


def build(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """``timm.create_model(name, **kwargs)``, or a model of ``zoo.models`` where ``name`` is a target.

    Raises:
        UnknownName: timm has no such architecture.
        UnknownArgument: the architecture takes no such keyword.
    """
    if ":" in name:
        return call(name.partition(":")[2], load_target(name), (), {}, kwargs)
    import timm

    if not is_timm(name):
        raise UnknownName("backbone", name, timm.list_models(), "timm.list_models() has all.")
    try:
        return timm.create_model(name, pretrained=False, **kwargs)
    except TypeError as error:
        match = re.search(r"(?:(\w+)\.__init__|(\w+))\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if match is None or match[3] not in kwargs:
            raise
        raise unknown_argument(name, match[3], _keywords(name, match[1])) from None


def _keywords(name: str, cls: str | None) -> list[str]:
    """What the class behind an architecture takes, and what timm's factory takes for all."""
    import timm
    from timm.models import model_entrypoint

    module = sys.modules[model_entrypoint(name.partition(".")[0]).__module__]
    classes = [getattr(module, cls, None)] if cls else []
    found = ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "global_pool", "features_only"]
    for candidate in classes:
        if inspect.isclass(candidate):
            found += list(inspect.signature(candidate.__init__).parameters)[1:]
    found += [p for p in inspect.signature(timm.create_model).parameters if p not in {"kwargs", "model_name"}]
    return list(dict.fromkeys(p for p in found if p not in {"args", "kwargs"}))
