"""Exchange every activation of a model."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import SwapError, UnknownName
from zoo.factory.surgery import Plan, Site, settle, sites
from zoo.factory.targets import call, load_target, parameters_of
from zoo.registry.lookup import registry
from zoo.registry.schema import Method

#: Modules that squash into a range on purpose: gates of attention blocks, probabilities. Not activations of a backbone.
_GATES = ("Sigmoid", "Hardsigmoid", "HardSigmoid", "HardSigmoidMe", "Softmax", "LogSoftmax", "Softmax2d", "Tanh")
_GATE_ATTRIBUTES = ("gate", "gate_act", "gate_fn", "gate_layer")
_TORCH_ACTS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Softplus, nn.Hardtanh, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink,
)  # fmt: skip


@lru_cache(maxsize=512)
def _is_act_class(cls: type) -> bool:
    if issubclass(cls, _TORCH_ACTS) or cls.__name__ in _GATES:
        return True
    if cls.__module__.startswith("timm.layers.activations") or cls.__name__ in {"GELUTanh", "QuickGELU", "GammaAct"}:
        return True
    targets = {m["target"] for m in registry().raw.methods.values() if m["kind"] == "activation"}
    return any(f"{c.__module__}:{c.__name__}" in targets for c in cls.__mro__)


def is_act(module: nn.Module) -> bool:
    """A nonlinearity: torch's, timm's, or a method of kind activation. Gates count, and are kept by design."""
    return _is_act_class(type(module))  # type: ignore[arg-type]


def plain_act(name: str) -> type[nn.Module] | None:
    """timm's class for an activation that has no paper of its own in the registry (``relu``, ``mish``, ``gelu``)."""
    from timm.layers.create_act import _ACT_LAYER_DEFAULT

    return _ACT_LAYER_DEFAULT.get(name)


def act_names() -> list[str]:
    from timm.layers.create_act import _ACT_LAYER_DEFAULT

    own = [n for n, m in registry().raw.methods.items() if m["kind"] == "activation"]
    return [*own, *_ACT_LAYER_DEFAULT]


def plan_acts(
    model: nn.Module, method: Method | str, parameters: dict[str, Any], shown: str, input_size: tuple[int, ...] | None
) -> Plan:
    """Plan the exchange; ``method`` is a registry method, or the name of a plain activation of timm."""
    plan = Plan("act", shown)
    needs_channels = isinstance(method, Method) and "channels" in method.needs
    if isinstance(method, Method):
        name, target, defaults = method.id, load_target(method.target), method.defaults
    else:
        name, target, defaults = method, plain_act(method), {}
        if target is None:
            raise UnknownName("activation", method, act_names())
    found = list(sites(model, is_act))
    if not found and not any(True for _ in model.modules()):
        raise SwapError(f"act={shown}: the model is empty")
    channels = _channels(model, found, input_size) if needs_channels else {}
    fallback = next(model.parameters(), None)
    for site in found:
        if _is_gate(site):
            plan.keep(site, "a gate, not an activation", by_design=True)
            continue
        if type(site.module).__name__ == "GammaAct":
            plan.keep(site, "its gain belongs to that activation (normalizer-free networks)")
            continue
        args: tuple[Any, ...] = ()
        if needs_channels:
            seen = channels.get(id(site.module))
            if not isinstance(seen, int):
                plan.keep(site, seen or "was not reached by a forward pass")
                continue
            args = (seen,)
        known = parameters_of(target)
        extra = dict(parameters)
        if "inplace" in known and "inplace" not in extra:
            extra["inplace"] = bool(getattr(site.module, "inplace", False))
        plan.put(site, settle(call(name, target, args, defaults, extra), site.module, fallback))
    return plan


def _is_gate(site: Site) -> bool:
    return type(site.module).__name__ in _GATES or any(a in _GATE_ATTRIBUTES for _, a in site.places)


def _channels(model: nn.Module, found: list[Site], input_size: tuple[int, ...] | None) -> dict[int, int | str]:
    """Channels of the ``(N, C, H, W)`` map that each activation sees, from one forward pass of a copy without data."""
    shapes: dict[int, set[tuple[int, ...]]] = {}
    ghost = copy.deepcopy(model).to("meta").eval()
    by_path = dict(ghost.named_modules(remove_duplicate=False))
    hooks = []
    for site in found:

        def note(_: nn.Module, args: tuple[Any, ...], out: Any, key: int = id(site.module)) -> None:
            if args and isinstance(args[0], Tensor):
                shapes.setdefault(key, set()).add(tuple(args[0].shape))

        hooks.append(by_path[site.path].register_forward_hook(note))
    size = input_size or _input_size(model)
    with torch.no_grad():
        try:
            ghost(torch.empty(2, *size, device="meta"))
        except Exception as error:  # any model of a user may stand here; its own message is the best one
            raise SwapError(
                f"this activation needs the number of channels at every place, and a forward pass on {size} failed: "
                f"{type(error).__name__}: {error}. input_size=(C, H, W) names another size."
            ) from error
    return {key: _one_width(seen) for key, seen in shapes.items()}


def _one_width(seen: set[tuple[int, ...]]) -> int | str:
    if any(len(s) != 4 for s in seen):
        return "does not act on (N, C, H, W) maps"
    if any(s[1] == s[2] != s[3] for s in seen):
        return "acts on (N, H, W, C) maps"
    widths = {s[1] for s in seen}
    return widths.pop() if len(widths) == 1 else f"is used at several widths ({', '.join(map(str, sorted(widths)))})"


def _input_size(model: nn.Module) -> tuple[int, ...]:
    cfg = getattr(model, "pretrained_cfg", None) or {}
    size = tuple(cfg.get("input_size") or (3, 224, 224)) if isinstance(cfg, dict) else tuple(cfg.input_size)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return (first.in_channels, *size[1:]) if first is not None and first.groups == 1 else size
