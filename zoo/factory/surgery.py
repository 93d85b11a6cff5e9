"""Planning and carrying out an exchange of modules: everything is built first, so that a failure leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from zoo.errors import SwapError
from zoo.factory.report import Kept, Replaced, SwapReport


@dataclass
class Site:
    """One module in a model: where it hangs (perhaps in several places) and what it is."""

    module: nn.Module
    places: list[tuple[nn.Module, str]]
    path: str

    @property
    def attribute(self) -> str:
        return self.places[0][1]


@dataclass
class Plan:
    """New modules for sites, and what stays."""

    swap: str
    method: str
    new: list[tuple[Site, nn.Module, str]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    also: list[Callable[[], None]] = field(default_factory=list)  # run after the exchange (a resized classifier)

    def put(self, site: Site, module: nn.Module, note: str = "") -> None:
        self.new.append((site, module, note))

    def keep(self, site: Site, reason: str, by_design: bool = False) -> None:
        self.kept.append(Kept(site.path, type(site.module).__name__, reason, by_design))

    def spare(self, patterns: list[str]) -> None:
        """Leave the sites whose path one of the shell patterns matches (``layer4.*``) as they are, by design.

        Raises:
            SwapError: a pattern that matches nothing, which is a misspelt path more often than not.
        """
        paths = [s.path for s, _, _ in self.new] + [k.path for k in self.kept]
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in paths):
                some = ", ".join(paths[:6]) + (", ..." if len(paths) > 6 else "")
                raise SwapError(f"{self.swap}={self.method}: keep={pattern!r} matches none of {some}")
        spared = [s for s, _, _ in self.new if any(fnmatchcase(s.path, p) for p in patterns)]
        if spared and self.also:
            raise SwapError(f"{self.swap}={self.method} has one place, keep= would leave nothing to replace")
        self.new = [entry for entry in self.new if entry[0] not in spared]
        for site in spared:
            self.keep(site, "kept as asked", by_design=True)

    def carry_out(self, model: nn.Module, allow_partial: bool) -> SwapReport:
        """Exchange the modules; nothing happens when the plan is not complete and ``allow_partial`` is off.

        Raises:
            SwapError: there is nothing to replace, or something would be left.
        """
        left = [k for k in self.kept if not k.by_design]
        name = type(model).__name__
        if not self.new:
            if not self.kept:
                raise SwapError(f"{self.swap}={self.method}: {name} has no layers that it could replace")
            why = "; ".join(f"{k.path} ({k.type}): {k.reason}" for k in self.kept[:4])
            raise SwapError(
                f"{self.swap}={self.method} can replace nothing in {name}: {why}{'; ...' if len(self.kept) > 4 else ''}"
            )
        if left and not allow_partial:
            some = "; ".join(f"{k.path} ({k.type}): {k.reason}" for k in left[:4])
            raise SwapError(
                f"{self.swap}={self.method} would leave {len(left)} of {len(left) + len(self.new)} layers of {name} as they are: "
                f"{some}{'; ...' if len(left) > 4 else ''}. allow_partial=True accepts that."
            )
        before = count_parameters(model)
        for site, module, _ in self.new:
            for parent, attribute in site.places:
                parent._modules[attribute] = module
        for action in self.also:
            action()
        return SwapReport(
            swap=self.swap,
            method=self.method,
            replaced=tuple(Replaced(s.path, type(s.module).__name__, type(m).__name__, n) for s, m, n in self.new),
            kept=tuple(self.kept),
            parameters_before=before,
            parameters_after=count_parameters(model),
        )


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def sites(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> Iterator[Site]:
    """Every module for which ``wanted`` holds, once, with all places it hangs in; their children are not entered.

    The model itself is no site: there is nobody to hang the new module on.
    """
    found: dict[int, Site] = {}
    seen: set[int] = set()

    def walk(parent: nn.Module, prefix: str) -> None:
        seen.add(id(parent))
        for attribute, child in parent._modules.items():
            if child is None:
                continue
            path = f"{prefix}.{attribute}" if prefix else attribute
            if wanted(child):
                site = found.setdefault(id(child), Site(child, [], path))
                site.places.append((parent, attribute))
            elif id(child) not in seen:
                walk(child, path)

    walk(model, "")
    yield from found.values()


def first_tensor(module: nn.Module) -> torch.Tensor | None:
    """A parameter or floating buffer that tells device and dtype."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor
    return None


def settle(new: nn.Module, old: nn.Module, fallback: torch.Tensor | None = None) -> nn.Module:
    """Give ``new`` the device, dtype and training mode of ``old`` (or of the model, where ``old`` has no tensors)."""
    like = first_tensor(old)
    like = like if like is not None else fallback
    if like is not None:
        if like.is_meta:
            new.to(device="meta", dtype=like.dtype)
        else:
            new.to(device=like.device, dtype=like.dtype)
    return new.train(old.training)


def copy_values(new: nn.Module, old: nn.Module, names: tuple[str, ...] = ("weight", "bias")) -> list[str]:
    """Copy parameters of equal name and shape, with ``requires_grad``; return the names that could not be copied."""
    lost = []
    for name in names:
        source: Any = getattr(old, name, None)
        target: Any = getattr(new, name, None)
        if not isinstance(source, nn.Parameter):
            continue
        if not isinstance(target, nn.Parameter) or target.shape != source.shape:
            lost.append(name)
            continue
        with torch.no_grad():
            if not source.is_meta and not target.is_meta:
                target.copy_(source)
        target.requires_grad_(source.requires_grad)
    trainable = [p.requires_grad for p in old.parameters(recurse=False)]
    if trainable and not any(trainable):  # a frozen layer stays frozen, whatever its new parameters are called
        new.requires_grad_(False)
    return lost
