"""Parameter groups with the exclusion lists that belong to an optimizer: what is spared weight decay and trust ratio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

Rule = Callable[[nn.Module, str, nn.Parameter], bool]


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises, by its class or the name of one of its classes (``RMSNorm``, ``BatchNormAct2d``)."""
    known = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, known) or any("norm" in c.__name__.lower() for c in type(module).__mro__)


def norm_and_bias(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Gains and shifts of normalisation layers, and everything called bias."""
    return name == "bias" or name.endswith("_bias") or is_norm(owner)


def one_dimensional(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whatever has one dimension or none, and biases of any shape: timm's rule, which takes LayerScale with it."""
    return parameter.ndim <= 1 or name == "bias"


def nothing(owner: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """No exclusion."""
    return False


RULES: dict[str, Rule] = {"norm_and_bias": norm_and_bias, "one_dimensional": one_dimensional, "nothing": nothing}


class Preset(NamedTuple):
    """Rule of an optimizer, whether its exclusion covers the trust ratio too, and where both come from."""

    rule: str
    ratio: bool
    source: str


PRESETS: dict[str, Preset] = {
    "lamb": Preset(
        "norm_and_bias", True, "lamb_optimizer.py of google-research/albert: LayerNorm and bias, decay and ratio"
    ),
    "lars": Preset("norm_and_bias", True, "common practice (timm: groups without decay); the paper gives no list"),
    "lans": Preset("nothing", False, "fused_lans.py of szhengac/apex: every tensor is decayed and adapted"),
    "adax": Preset("nothing", False, "no list known"),
    "adax_w": Preset("nothing", False, "no list known"),
    "adabound": Preset("nothing", False, "no list known"),
    "amsbound": Preset("nothing", False, "no list known"),
}


def parameter_groups(
    model: nn.Module, optimizer: str, weight_decay: float, rule: str | Rule | None = None
) -> list[dict[str, Any]]:
    """Groups of the trainable parameters for an optimizer, those with decay first.

    For timm's ``Lars`` and ``Lamb``, a group without decay is left out of the trust ratio too (``always_adapt`` False),
    which is what their lists ask for. The optimizers of this package have no such coupling.

    Args:
        model: parameters are taken once, in the order of ``named_parameters``.
        optimizer: one of :data:`PRESETS`.
        weight_decay: of the parameters that are not excluded.
        rule: one of :data:`RULES`, or ``(owner, name in it, parameter) -> bool``, in place of the preset's.

    Returns:
        One or two groups ``{"params": [...], "weight_decay": ..., "param_names": [...]}``; empty ones are left out.

    Raises:
        ValueError: an unknown optimizer or rule, negative decay, or a model without trainable parameters.
    """
    if optimizer not in PRESETS:
        raise ValueError(f"parameter_groups knows {', '.join(PRESETS)}, received {optimizer!r}")
    if isinstance(rule, str) and rule not in RULES:
        raise ValueError(f"parameter_groups knows the rules {', '.join(RULES)}, received {rule!r}")
    if not weight_decay >= 0:
        raise ValueError(f"parameter_groups needs weight_decay >= 0, received {weight_decay!r}")
    chosen = PRESETS[optimizer].rule if rule is None else rule
    excluded = RULES[chosen] if isinstance(chosen, str) else chosen
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": w, "param_names": []} for w in (float(weight_decay), 0.0)
    ]
    seen: set[nn.Parameter] = set()
    for path, owner in model.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            group = groups[bool(excluded(owner, name, parameter))]
            group["params"].append(parameter)
            group["param_names"].append(f"{path}.{name}" if path else name)
    if not seen:
        raise ValueError("parameter_groups received a model without trainable parameters")
    return [g for g in groups if g["params"]]
