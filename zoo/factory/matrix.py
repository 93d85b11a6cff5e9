"""The swap matrix: which method lands in which of timm's model families. ``python -m zoo.factory.matrix --write``.

Everything runs on the meta device: construction, surgery, one forward and backward pass, so the whole sweep takes minutes and
says whether shapes agree, not whether training works. Activations that a model calls as functions (``F.relu``) are no modules and
cannot be exchanged; they are counted.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from zoo.errors import ZooError
from zoo.factory.acts import is_act
from zoo.factory.families import FAMILIES

SWAPS = {
    "group_norm": ("norm", "group_norm"),
    "layer_norm": ("norm", "layer_norm"),
    "mish": ("act", "mish"),
    "frelu": ("act", "frelu"),
    "weight_standardization": ("conv", "weight_standardization"),
    "isqrt_cov": ("pool", "isqrt_cov"),
}
_FUNCTIONAL = {
    "relu",
    "relu_",
    "relu6",
    "gelu",
    "silu",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "mish",
    "hardswish",
    "softplus",
}


class _FunctionalActs(TorchFunctionMode):
    """Counts activation functions that are called outside of activation modules."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _FUNCTIONAL and not self.inside:
            self.found[name] += 1
            self.inside += 1
            try:
                return func(*args, **(kwargs or {}))
            finally:
                self.inside -= 1
        return func(*args, **(kwargs or {}))


def build_family(family: str) -> nn.Module:
    """The family's small model without data."""
    import timm

    with torch.device("meta"):
        return timm.create_model(FAMILIES[family])


def functional_acts(model: nn.Module) -> int:
    """How many activation calls of one forward pass are functions, which no surgery reaches."""
    ghost = copy.deepcopy(model).eval()
    counter = _FunctionalActs()
    for module in ghost.modules():
        if is_act(module):
            module.register_forward_pre_hook(lambda *_: setattr(counter, "inside", counter.inside + 1))
            module.register_forward_hook(lambda *_: setattr(counter, "inside", counter.inside - 1))
    with torch.no_grad(), counter, torch.device("meta"):
        ghost(torch.empty(1, *ghost.pretrained_cfg["input_size"]))  # type: ignore[index]
    return sum(counter.found.values())


def try_swap(model: nn.Module, method: str, run: bool = True) -> dict[str, Any]:
    """Swap in a copy of ``model`` and, with ``run``, take a forward and backward pass.

    Returns:
        ``status`` (complete; partial; none: the model has no such layer; refused with a reason; error), ``replaced``,
        ``left`` and reasons.
    """
    import zoo

    swap, spec = SWAPS[method]
    ghost = copy.deepcopy(model)
    try:
        report = zoo.swap(ghost, **{swap: spec}, allow_partial=True)  # type: ignore[arg-type]
    except ZooError as error:
        if "has no layers" in str(error):
            return {"status": "none"}
        # The message names places; a table wants each reason once.
        reasons = dict.fromkeys(re.findall(r"\(\w+\): ([^;]+)", str(error))) or [str(error).partition(": ")[2]]
        return {"status": "refused", "why": "; ".join(reasons)[:200]}
    row: dict[str, Any] = {"status": "complete" if report.complete else "partial", "replaced": len(report.replaced)}
    if report.left:
        row |= {"left": len(report.left), "why": "; ".join(sorted({k.reason for k in report.left}))[:200]}
    if run:
        try:
            row["forward"] = _runs(ghost)
        except Exception as error:  # whatever a model of timm raises belongs in the matrix
            return {**row, "status": "error", "why": f"{type(error).__name__}: {error}"[:200]}
    return row


def _runs(model: nn.Module) -> str:
    size = model.pretrained_cfg["input_size"]  # type: ignore[index]
    with torch.device("meta"):
        out = model(torch.empty(2, *size))
        out = out[0] if isinstance(out, tuple | list) else out
        out.sum().backward()
    return "x".join(map(str, out.shape))


def sweep(families: list[str] | None = None, progress: bool = False) -> dict[str, Any]:
    """The matrix over ``families`` (default: all)."""
    import timm

    rows: dict[str, Any] = {}
    for family in families or FAMILIES:
        model = build_family(family)
        rows[family] = {"model": FAMILIES[family], **{m: try_swap(model, m) for m in SWAPS}}
        rows[family]["functional_activations"] = functional_acts(model)
        if progress:
            print(family, {m: rows[family][m]["status"] for m in SWAPS}, flush=True)
    return {"timm_version": timm.__version__, "swaps": {m: s for m, (s, _) in SWAPS.items()}, "families": rows}


def main() -> None:
    from zoo.registry.files import checkout_root

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*")
    parser.add_argument("--write", action="store_true", help="write docs/data/swap_matrix.json")
    arguments = parser.parse_args()
    matrix = sweep(arguments.families or None, progress=True)
    root = checkout_root()
    if arguments.write and root is not None and not arguments.families:
        path = Path(root) / "docs" / "data" / "swap_matrix.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(matrix, indent=1) + "\n", encoding="utf-8")
    for method in SWAPS:
        print(method, dict(Counter(r[method]["status"] for r in matrix["families"].values())))


if __name__ == "__main__":
    main()
