"""Exchange every normalization layer of a model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from zoo.factory.groups import choose_groups
from zoo.factory.shapes import any_dims, channels_last, recast, with_act
from zoo.factory.surgery import Plan, Site, copy_values, settle, sites
from zoo.factory.targets import call, load_target, parameters_of, require_divisible
from zoo.registry.lookup import registry
from zoo.registry.schema import Method

_TIMM_NORM_MODULES = (
    "timm.layers.norm", "timm.layers.norm_act", "timm.layers.evo_norm", "timm.layers.filter_response_norm",
    "timm.layers.inplace_abn",
)  # fmt: skip
#: Blocks whose name says norm but which are a part of an architecture's own design.
_BY_DESIGN = {
    "GlobalResponseNorm": "response normalization is part of the block",
    "LocalResponseNorm": "normalises over neighbouring channels",
}


def is_norm(module: nn.Module) -> bool:
    """A layer that standardises activations: torch's, timm's, or a method of kind norm."""
    return _is_norm_class(type(module))  # type: ignore[arg-type]


@lru_cache(maxsize=512)
def _is_norm_class(cls: type) -> bool:
    if issubclass(cls, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        return True
    if cls.__name__ == "FrozenBatchNorm2d":
        return True
    if any(c.__module__ in _TIMM_NORM_MODULES for c in cls.__mro__):
        return True
    targets = {
        t
        for m in registry().raw.methods.values()
        if m["kind"] == "norm"
        for t in (m["target"], *m.get("variants", {}).values())
    }
    return any(f"{c.__module__}:{c.__name__}" in targets for c in cls.__mro__)


def layout_of(module: nn.Module) -> str:
    """``2d``, ``1d`` or ``3d`` for channels at dim 1, ``channels_last`` for channels at the end."""
    recipe = getattr(module, "_recipe", ("", None))[0]
    if recipe == "channels_last":
        return "channels_last"
    names = [cls.__name__ for cls in type(module).__mro__]
    if any("1d" in n for n in names):
        return "1d"
    if any("3d" in n for n in names):
        return "3d"
    if any("2d" in n for n in names) or isinstance(module, nn.GroupNorm | nn.modules.batchnorm._NormBase):
        return "2d"
    return "channels_last" if hasattr(module, "normalized_shape") else "2d"


def channels_of(module: nn.Module) -> int | None:
    """Number of channels that a norm layer was built for; None where it cannot be told."""
    for name in ("num_features", "num_channels"):
        if isinstance(value := getattr(module, name, None), int):
            return value
    shape = getattr(module, "normalized_shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) == 1 else None
    weight = getattr(module, "weight", None)
    return weight.numel() if isinstance(weight, torch.Tensor) else None


def build_norm(method: Method, channels: int, layout: str, parameters: dict[str, Any]) -> nn.Module:
    """The layer of ``method`` for ``channels`` in ``layout``: its own variant, or the 2-d class behind a view."""
    target = load_target(method.variants.get(layout, method.target))  # type: ignore[call-overload]
    module: nn.Module = call(method.id, target, (channels,), _applicable(target, method.defaults), parameters)
    if layout in method.variants or layout == "2d":
        return module
    return recast(module, channels_last if layout == "channels_last" else any_dims)


def _applicable(target: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Registry defaults are stated for the main target; a variant takes those that it knows."""
    known = parameters_of(target)
    return {k: v for k, v in defaults.items() if k in known or any(p.kind is p.VAR_KEYWORD for p in known.values())}


def plan_norms(model: nn.Module, method: Method, parameters: dict[str, Any], shown: str) -> Plan:
    """Plan the exchange; see :func:`zoo.swap`."""
    plan = Plan("norm", shown)
    fallback = next(model.parameters(), None)
    groups_given = "num_groups" in parameters
    for site in sites(model, lambda m: is_norm(m) or type(m).__name__ in _BY_DESIGN):
        old = site.module
        if (reason := _BY_DESIGN.get(type(old).__name__)) is not None:
            plan.keep(site, reason, by_design=True)
            continue
        if _has_built_in_act(old):
            plan.keep(site, "its activation is one with its normalization")
            continue
        channels = channels_of(old)
        if channels is None:
            plan.keep(site, "normalises over several dimensions at once")
            continue
        here = dict(parameters)
        wanted = here.get("num_groups", method.defaults.get("num_groups"))
        if wanted is not None and "num_groups" in parameters_of(load_target(method.target)):
            if groups_given:
                require_divisible(f"{method.id} at {site.path}", channels, wanted)
            else:
                here["num_groups"] = choose_groups(channels, wanted)
        plan.put(site, *_new_norm(site, method, channels, here, fallback))
    return plan


def _new_norm(
    site: Site, method: Method, channels: int, parameters: dict[str, Any], fallback: torch.Tensor | None
) -> tuple[nn.Module, str]:
    old = site.module
    affine = isinstance(getattr(old, "weight", None), nn.Parameter)
    layout = layout_of(old)
    if not affine:
        known = parameters_of(load_target(method.variants.get(layout, method.target)))  # type: ignore[call-overload]
        for switch in ("affine", "elementwise_affine"):
            if switch in known and switch not in parameters:
                parameters[switch] = False
    with torch.device("cpu"):
        new = build_norm(method, channels, layout, parameters)
    settle(new, old, fallback)
    zero_gain = affine and not old.weight.is_meta and not bool(old.weight.detach().any())  # type: ignore[operator, union-attr]
    lost = copy_values(new, old)
    note = ""
    if "weight" in lost and zero_gain:
        note = "the old gain was initialised to zero and the new layer has no gain of that shape to carry it"
    elif lost:
        note = f"the new layer has no {' and '.join(lost)} of the old shape"
    if _is_fused(old):
        new = recast(new, with_act)
        new.drop, new.act = old.drop, old.act  # type: ignore[union-attr, assignment]
    return new, note


def _is_fused(module: nn.Module) -> bool:
    """A norm that ends in its own activation: timm's fused layers and those that :func:`with_act` made."""
    return isinstance(getattr(module, "act", None), nn.Module) and isinstance(getattr(module, "drop", None), nn.Module)


def _has_built_in_act(module: nn.Module) -> bool:
    """EvoNorm, FilterResponseNorm and InplaceAbn: taking the norm out would take the nonlinearity with it."""
    built_in = ("timm.layers.evo_norm", "timm.layers.filter_response_norm", "timm.layers.inplace_abn")
    return any(c.__module__ in built_in for c in type(module).__mro__) and not _is_fused(module)
