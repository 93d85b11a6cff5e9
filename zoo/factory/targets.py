"""Import a target and bind arguments to it, with errors that name the right keyword."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import lru_cache
from typing import Any

from zoo.errors import RegistryError, UnknownArgument, ZooError, suggestion


@lru_cache(maxsize=1024)
def load_target(target: str) -> Any:
    """The object that ``"package.module:Attribute"`` names.

    Raises:
        RegistryError: the module or attribute does not exist in the installed version.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise RegistryError([f"target {target}: {error}"]) from error
    except AttributeError:
        near = suggestion(attribute, dir(importlib.import_module(module)))
        raise RegistryError([f"target {target}: {module} has no {attribute!r}.{near}"]) from None


@lru_cache(maxsize=1024)
def parameters_of(target: Any) -> dict[str, inspect.Parameter]:
    """Parameters that a caller may give, in order."""
    try:
        return dict(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return {}


def call(name: str, target: Any, args: tuple[Any, ...], defaults: dict[str, Any], kwargs: dict[str, Any]) -> Any:
    """``target(*args, **defaults, **kwargs)``; what the caller gives wins over the registry's defaults.

    Raises:
        UnknownArgument: a keyword that ``target`` does not take, a missing or doubled one; says what it takes.
    """
    parameters = parameters_of(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if parameters and not takes_any:
        for keyword in kwargs:
            if keyword not in named:
                raise unknown_argument(name, keyword, named)
    positional = set(named[: len(args)])
    merged = {**{k: v for k, v in defaults.items() if k not in positional}, **kwargs}
    if parameters:
        try:
            inspect.signature(target).bind(*args, **merged)
        except TypeError as error:
            raise UnknownArgument(f"{name}: {error}. It takes: {_shown(parameters)}") from None
    try:
        return target(*args, **merged)
    except TypeError as error:  # a target that passes **kwargs on learns of a wrong one only here
        match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not takes_any or match is None or match[1] not in merged:
            raise
        raise unknown_argument(name, match[1], _through_bases(target)) from None


def _through_bases(target: Any) -> list[str]:
    """Keywords of a class and of those that it passes ``**kwargs`` on to."""
    found: list[str] = []
    for cls in getattr(target, "__mro__", (target,)):
        found += [n for n, p in parameters_of(cls).items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters_of(cls).values()):
            break
    return list(dict.fromkeys(found))


def unknown_argument(name: str, keyword: str, known: list[str]) -> UnknownArgument:
    return UnknownArgument(
        f"{name} takes no argument {keyword!r}.{suggestion(keyword, known)} It takes: {', '.join(known)}."
    )


def _shown(parameters: dict[str, inspect.Parameter]) -> str:
    return ", ".join(
        n if p.default is p.empty else f"{n}={p.default!r}"
        for n, p in parameters.items()
        if p.kind is not p.VAR_KEYWORD
    )


def require_divisible(name: str, channels: int, groups: int) -> None:
    """One clear error for groups that do not divide, with the groups that would."""
    if not isinstance(groups, int) or groups < 1:
        raise ZooError(f"{name}: num_groups is a positive integer, received {groups!r}")
    if channels % groups:
        fitting = [g for g in range(1, channels + 1) if channels % g == 0]
        near = sorted(sorted(fitting, key=lambda g: abs(g - groups))[:4])
        raise ZooError(
            f"{name}: {channels} channels do not divide into {groups} groups; nearest that do: {', '.join(map(str, near))}"
        )
