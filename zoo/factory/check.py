"""Checks that need the targets themselves: importable, of the class that the kind requires, defaults bind."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from zoo.errors import RegistryError, suggestion
from zoo.factory.targets import load_target, parameters_of

if TYPE_CHECKING:
    from zoo.registry.load import Raw

#: Kinds whose targets are classes of torch, by import path; the others may be functions too.
_BASES = {
    **dict.fromkeys(
        (
            "norm",
            "activation",
            "conv",
            "linear",
            "rnn",
            "pool",
            "block",
            "upsample",
            "flow",
            "model",
            "loss",
            "autograd",
        ),
        "torch.nn:Module",
    ),
    "optimizer": "torch.optim:Optimizer",
    "schedule": "torch.optim.lr_scheduler:LRScheduler",
    "sampler": "torch.utils.data:Sampler",
    "dataset": "torch.utils.data:Dataset",
}


def check_targets(raw: Raw) -> list[str]:
    """Import every target of ``raw``; returns one line a problem."""
    problems = []
    for name, method in raw.methods.items():
        for label, target in (
            ("target", method["target"]),
            *((f"variants.{k}", v) for k, v in method.get("variants", {}).items()),
        ):
            where = f"{raw.files[f'methods.{name}']}: methods.{name}.{label}"
            problems += [
                f"{where}: {p}"
                for p in _target(target, method["kind"], method.get("defaults", {}) if label == "target" else {})
            ]
    from zoo.claims.run import load_check
    from zoo.errors import ZooError

    for name, paper in raw.papers.items():
        for claim in paper.get("claims", ()):
            if claim.get("check"):
                try:
                    load_check(claim["check"])
                except ZooError as error:
                    problems.append(f"{raw.files[f'papers.{name}']}: claims.{claim['id']}: {error}")
    return problems


def _target(target: str, kind: str, defaults: dict[str, Any]) -> list[str]:
    try:
        found = load_target(target)
    except RegistryError as error:
        return error.problems
    except ImportError as error:
        return [f"cannot be imported: {error}"]
    base = _BASES.get(kind)
    if base is not None and not (inspect.isclass(found) and issubclass(found, load_target_base(base))):
        received = f"class {found.__name__}" if inspect.isclass(found) else type(found).__name__
        return [f"kind {kind} needs a subclass of {base.replace(':', '.')}, {target} is a {received}"]
    if not callable(found):
        return [f"{target} cannot be called"]
    parameters = parameters_of(found)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or not parameters:
        return []
    return [
        f"default {d!r} is no parameter of {target}.{suggestion(d, parameters)}"
        for d in defaults
        if d not in parameters
    ]


def load_target_base(path: str) -> type:
    import importlib

    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
