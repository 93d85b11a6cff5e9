"""Exchange the global pooling of a classifier and resize what follows it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zoo.errors import SwapError
from zoo.factory.surgery import Plan, Site, settle, sites
from zoo.factory.targets import call, load_target
from zoo.registry.schema import Method


class GlobalPool(nn.Module):
    """A pooling method where timm keeps its ``SelectAdaptivePool2d``: ``(N, C, H, W) -> (N, out_features)``."""

    pool_type = "zoo"

    def __init__(self, pool: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.pool, self.in_channels = pool, in_channels

    @property
    def out_features(self) -> int:
        return int(self.pool.out_features)  # type: ignore[arg-type]

    def is_identity(self) -> bool:
        return False

    def feat_mult(self) -> float:
        """timm multiplies the channels by this to size a new classifier."""
        return self.out_features / self.in_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


def _is_pool(module: nn.Module) -> bool:
    if isinstance(module, GlobalPool):
        return True
    return type(module).__name__ in {"SelectAdaptivePool2d", "AdaptiveAvgPool2d"} and _size_one(module)


def _size_one(module: nn.Module) -> bool:
    size = getattr(module, "output_size", 1)
    return size in (1, (1, 1)) and not (hasattr(module, "is_identity") and module.is_identity())  # type: ignore[operator]


def plan_pool(model: nn.Module, method: Method, parameters: dict[str, Any], shown: str) -> Plan:
    """Plan the exchange of the pooling before the classifier, and a classifier of the new width."""
    plan = Plan("pool", shown)
    name = type(model).__name__
    place = _classifier(model)
    if place is None:
        raise SwapError(
            f"pool={shown}: {name} has no linear classifier to resize (timm's get_classifier, or an attribute fc, "
            "classifier or head)"
        )
    parent, attribute, classifier = place
    pools = [s for s in sites(model, _is_pool) if _is_global(s, model, parent)]
    if len(pools) != 1:
        found = ", ".join(s.path for s in pools) or "none"
        raise SwapError(
            f"pool={shown}: {name} needs exactly one global pooling of (N, C, H, W) maps before its classifier, found {found}"
        )
    site = pools[0]
    old = site.module
    if any(getattr(m, "input_fmt", "NCHW") == "NHWC" for m in (old, getattr(old, "pool", None), parent)):
        raise SwapError(f"pool={shown}: the maps of {name} are (N, H, W, C), pooling methods take (N, C, H, W)")
    between = [] if parent is model else [
        child for child, module in parent.named_children()
        if module is not classifier and module is not old and _does_something(module)
    ]  # fmt: skip
    if between:
        raise SwapError(
            f"pool={shown}: {name} has {' and '.join(between)} of fixed width between pooling and classifier; "
            "they cannot be resized"
        )
    mult = old.feat_mult() if hasattr(old, "feat_mult") else 1  # type: ignore[operator]
    in_channels = int(classifier.in_features / mult)
    width = getattr(model, "num_features", in_channels)
    if isinstance(width, int) and width != in_channels and parent is model:
        raise SwapError(
            f"pool={shown}: {name} has layers between pooling ({width} channels) and classifier ({in_channels}); "
            "they cannot be resized"
        )
    pool = call(method.id, load_target(method.target), (in_channels,), method.defaults, parameters)
    new = GlobalPool(pool, in_channels)
    settle(new, old, classifier.weight)
    head = nn.Linear(new.out_features, classifier.out_features, bias=classifier.bias is not None)
    settle(head, classifier)
    head.requires_grad_(classifier.weight.requires_grad)
    plan.put(site, new)

    def resize() -> None:
        parent._modules[attribute] = head
        for owner in (model, parent):
            if isinstance(getattr(owner, "num_features", None), int) and owner is not model:
                owner.num_features = new.out_features  # type: ignore[assignment]
        if isinstance(getattr(model, "head_hidden_size", None), int):
            model.head_hidden_size = new.out_features  # type: ignore[assignment]

    plan.also.append(resize)
    return plan


def _does_something(module: nn.Module) -> bool:
    """Whether it has values of a fixed width."""
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _classifier(model: nn.Module) -> tuple[nn.Module, str, nn.Linear] | None:
    getter = getattr(model, "get_classifier", None)
    wanted = getter() if callable(getter) else None
    candidates = [wanted] if wanted is not None else [getattr(model, a, None) for a in ("fc", "classifier", "head")]
    for candidate in candidates:
        if isinstance(candidate, nn.Linear):
            for parent in model.modules():
                for attribute, child in parent._modules.items():
                    if child is candidate:
                        return parent, attribute, candidate
    return None


def _is_global(site: Site, model: nn.Module, head: nn.Module) -> bool:
    """The pooling beside the classifier, not that of a squeeze-and-excitation block."""
    parents = [p for p, _ in site.places]
    return any(p is model or p is head for p in parents)
