"""Compute the figures from the implementations: ``python -m zoo.site.curves [--check]``.

The only part of the site that imports torch, and a step of its own: it writes ``docs/data/curves.json`` and
``docs/data/signatures.json``, which are committed. Every entry carries a key over the source that it was computed from, so that
only what changed is computed again and a test sees what is out of date.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import inspect
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.factory.targets import load_target
from zoo.registry.files import PACKAGE, checkout_root, write_atomic
from zoo.registry.lookup import Registry, registry
from zoo.registry.schema import Method
from zoo.site import drawings
from zoo.site.sources import meaning

FORMAT = 6  # raise when this file draws something else
Figure = dict[str, Any]

#: What a constructor needs for a figure beyond the registry's defaults; K = 10 classes.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "sgdr": {"T_0": 20, "T_mult": 2},
}
CLASSES = 10
SAMPLES, CHANNELS, SIDE = 3, 6, 2


class Undrawable(Exception):
    """Nothing sensible can be drawn of a method; says why."""


def key_of(method: Method) -> str:
    """Hash over what a figure depends on: the implementation's own source file, or the name of a library's class."""
    if method.backing == "zoo":
        source = meaning(PACKAGE.parent / (method.target.partition(":")[0].replace(".", "/") + ".py")).encode()
    else:
        source = method.target.encode()
    settings = json.dumps([FORMAT, method.kind, method.defaults, ARGUMENTS.get(method.id)], sort_keys=True)
    return hashlib.sha256(source + settings.encode()).hexdigest()[:16]


def _round(values: Tensor) -> list[float | None]:
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values.double().tolist()]


def _instance(method: Method, *args: Any, **more: Any) -> Any:
    return load_target(method.target)(*args, **{**method.defaults, **ARGUMENTS.get(method.id, {}), **more})


# --------------------------------------------------------------------------- one drawing a kind


def norm(method: Method) -> list[Figure]:
    """Elements whose change moves one output element in training mode: they share its statistics."""
    more = {}
    if "num_groups" in {**inspect.signature(load_target(method.target)).parameters, **method.defaults}:
        more["num_groups"] = 2
    torch.manual_seed(0)
    layer = _instance(method, CHANNELS, **more).double().train()
    x = torch.randn(SAMPLES, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    first = x.clone()
    with torch.no_grad():
        layer(first)  # data-dependent initialisation and the like happen here

        def output(value: Tensor) -> float:
            result = copy.deepcopy(layer)(value)
            return float((result[0] if isinstance(result, tuple) else result)[0, 0, 0, 0])

        base = output(x)
        if output(x) != base:
            raise Undrawable("the layer draws random numbers")
        shared = torch.zeros(SAMPLES, CHANNELS, SIDE * SIDE)
        for n in range(SAMPLES):
            for c in range(CHANNELS):
                for s in range(SIDE * SIDE):
                    moved = x.clone()
                    moved[n, c, s // SIDE, s % SIDE] += 0.7
                    shared[n, c, s] = float(abs(output(moved) - base) > 1e-9)
    shared[0, 0, 0] = 1
    data: Figure = {
        "type": "cube",
        "title": "Which elements share statistics with the marked one",
        "shared": shared.int().tolist(),
        "description": _axes(shared),
    }
    if "num_groups" in more and method.id == "group_norm":
        data["widget"] = "groups"
    return [data]


def _axes(shared: Tensor) -> str:
    """The picture in words."""
    parts = []
    for name, profile in (
        ("samples", shared.amax((1, 2))),
        ("channels", shared.amax((0, 2))),
        ("positions", shared.amax((0, 1))),
    ):
        on = int(profile.sum())
        if on == 1:
            continue
        parts.append(f"all {on} {name}" if on == len(profile) else f"{on} of {len(profile)} {name}")
    own = f"Training mode, {SAMPLES} samples, {CHANNELS} channels, {SIDE * SIDE} positions: "
    return own + ("statistics over " + ", ".join(parts) + "." if parts else "every element stands for itself.")


def activation(method: Method) -> list[Figure]:
    """The function and its derivative by autograd."""
    if "channels" in method.needs:
        raise Undrawable("looks at a neighbourhood, so it is not a curve")
    x = torch.linspace(-4, 4, 161, dtype=torch.float64, requires_grad=True)
    y = _instance(method).double()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    xs = _round(x.detach())
    return [{
        "type": "plot", "group": "Activations", "title": f"{method.id} and its derivative", "x_label": "x", "y_label": "f(x)",
        "lines": [{"label": "f(x)", "x": xs, "y": _round(y.detach())}, {"label": "f'(x)", "x": xs, "y": _round(slope), "dash": True}],
    }]  # fmt: skip


def schedule(method: Method) -> list[Figure]:
    """Learning rate over 140 steps, starting from 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    plan = _instance(method, optimizer)
    rates = []
    for _ in range(140):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        plan.step()
    arguments = {**method.defaults, **ARGUMENTS.get(method.id, {})}
    shown = ", ".join(f"{k} = {v}" for k, v in arguments.items())
    return [{
        "type": "plot", "group": "Schedules", "title": f"Learning rate over the run ({shown})", "x_label": "step", "y_label": "learning rate",
        "lines": [{"label": method.id, "x": list(range(140)), "y": _round(torch.tensor(rates, dtype=torch.float64))}],
    }]  # fmt: skip


def loss(method: Method) -> list[Figure]:
    """How hard one sample pulls, as a function of the probability of its label: the L1 norm of the gradient by the logits."""
    parameters = inspect.signature(load_target(method.target)).parameters
    more: dict[str, Any] = {}
    for name in ("num_classes", "class_counts", "counts", "prior", "transition", "T"):
        parameter = parameters.get(name)
        if parameter is not None and parameter.default is parameter.empty:
            more[name] = _class_argument(name)
    criterion = _instance(method, **more).double().train()
    p = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    weights = []
    for value in p:
        others = torch.full((CLASSES - 1,), (1 - value.item()) / (CLASSES - 1), dtype=torch.float64)
        logits = torch.cat((value.view(1), others)).log().unsqueeze(0).requires_grad_()
        result = criterion(logits, torch.zeros(1, dtype=torch.long))
        if not isinstance(result, Tensor):
            raise Undrawable("returns more than a value")
        (grad,) = torch.autograd.grad(result.sum(), logits)
        weights.append(float(grad.abs().sum()))
    data: Figure = {
        "type": "plot", "group": "Weight of a sample", "title": "Weight of a sample by the probability of its label",
        "x_label": "p of the label", "y_label": "L1 norm of the gradient",
        "lines": [{"label": method.id, "x": _round(p), "y": _round(torch.tensor(weights, dtype=torch.float64))}],
        "note": f"{CLASSES} classes, the rest of the probability spread evenly over the others; gradient by the logits.",
    }  # fmt: skip
    if method.id in ("imae", "derivative_manipulation"):
        data["widget"] = "emphasis"
    return [data]


def _class_argument(name: str) -> Any:
    if name == "num_classes":
        return CLASSES
    if name in ("class_counts", "counts", "prior"):
        return torch.full((CLASSES,), 1 / CLASSES if name == "prior" else 100.0)
    return torch.full((CLASSES, CLASSES), 0.4 / (CLASSES - 1)).fill_diagonal_(0.6)


def _surfaces() -> list[
    tuple[str, Callable[[Tensor], Tensor], tuple[float, float], float, list[list[tuple[float, float]]]]
]:
    """Two surfaces with start, learning rate and level curves in closed form."""
    ravine = [
        [
            (math.sqrt(2 * level) * math.cos(a), math.sqrt(2 * level / 20) * math.sin(a))
            for a in (k * math.pi / 40 for k in range(81))
        ]
        for level in (0.3, 1.5, 4.0, 8.0)
    ]
    valley = []
    for level in (0.5, 2.0, 6.0):
        reach = math.sqrt(level)
        xs = [1 - reach + 2 * reach * k / 80 for k in range(81)]
        half = [math.sqrt(max(0.0, level - (1 - x) ** 2) / 10) for x in xs]
        loop = [(x, x * x + h) for x, h in zip(xs, half, strict=True)] + [
            (x, x * x - h) for x, h in zip(xs[::-1], half[::-1], strict=True)
        ]
        valley.append([(x, y) for x, y in loop if -1.6 <= x <= 2 and -1 <= y <= 3])
    return [
        ("ravine, 0.5 (x² + 20 y²)", lambda v: 0.5 * (v[0] ** 2 + 20 * v[1] ** 2), (-3.5, 0.8), 0.05, ravine),
        (
            "curved valley, (1 − x)² + 10 (y − x²)²",
            lambda v: (1 - v[0]) ** 2 + 10 * (v[1] - v[0] ** 2) ** 2,
            (-1.2, 1.5),
            0.02,
            valley,
        ),
    ]


def optimizer(method: Method) -> list[Figure]:
    """The way of the optimizer on two surfaces, with the same learning rate for all."""
    out = []
    for name, surface, start, lr, levels in _surfaces():
        point = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        stepper = _instance(method, [point], lr=lr)
        path = [list(start)]
        for _ in range(150):
            stepper.zero_grad()
            surface(point).backward()
            stepper.step()
            path.append(point.detach().tolist())
            if not all(math.isfinite(v) and abs(v) < 6 for v in path[-1]):
                path.pop()
                break
        x, y = torch.tensor(path, dtype=torch.float64).unbind(1)
        out.append({
            "type": "plot", "title": f"{name}: {len(path) - 1} steps, lr {lr}", "x_label": "x", "y_label": "y",
            "lines": [{"label": method.id, "x": _round(x), "y": _round(y)}],
            "levels": [[[round(a, 3), round(b, 3)] for a, b in loop] for loop in levels],
        })  # fmt: skip
    return out


def state_of(method: Method) -> dict[str, Any]:
    """Values that the optimizer keeps for each parameter after a step, and their type for bfloat16 parameters."""
    kept = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = nn.Parameter(torch.randn(50, 20).to(dtype))
        stepper = _instance(method, [weight], lr=1e-3)
        weight.grad = torch.randn_like(weight)
        stepper.step()
        tensors = [v for v in stepper.state[weight].values() if isinstance(v, Tensor) and v.numel() > 1]
        kept[dtype] = tensors
    return {
        "per_parameter": sum(v.numel() for v in kept[torch.float32]) / 1000,
        "bytes_float32": sum(v.numel() * v.element_size() for v in kept[torch.float32]) / 1000,
        "bytes_bfloat16": sum(v.numel() * v.element_size() for v in kept[torch.bfloat16]) / 1000,
    }


def flow(method: Method) -> list[Figure]:
    """What the flow does to a square grid in the plane."""
    torch.manual_seed(1)
    step = _instance(method, 2).double()
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.9)
    ticks, fine = torch.linspace(-2, 2, 9, dtype=torch.float64), torch.linspace(-2, 2, 41, dtype=torch.float64)
    lines, levels = [], []
    xs: list[float | None] = []
    ys: list[float | None] = []
    for t in ticks:
        for grid in (torch.stack((t.expand_as(fine), fine), 1), torch.stack((fine, t.expand_as(fine)), 1)):
            with torch.no_grad():
                moved = step(grid)[0]
            xs += [*_round(moved[:, 0]), float(moved[-1, 0])]
            ys += [*_round(moved[:, 1]), None]
            levels.append([[round(float(a), 3), round(float(b), 3)] for a, b in (grid[0], grid[-1])])
    lines.append({"label": f"after one step of {method.id} with random parameters", "x": xs, "y": ys})
    return [{
        "type": "plot", "title": "What one step does to a square grid", "x_label": "first coordinate", "y_label": "second coordinate",
        "lines": lines, "levels": levels, "description": "A square grid before (faint) and after the step.",
    }]  # fmt: skip


def pool(method: Method) -> list[Figure]:
    """Bins where there are some; else what second-order pooling does to the channels."""
    channels = {"spatial_pyramid_pooling": 1, "bilinear_pooling": 8}.get(method.id, 16)
    layer = _instance(method, channels)
    if method.id == "spatial_pyramid_pooling":
        return drawings.bins(layer, channels)
    return (
        drawings.outer(layer, channels)
        if method.id == "bilinear_pooling"
        else drawings.spectrum(layer, channels, method.id)
    )


def block(method: Method) -> list[Figure]:
    """Positions that move a marked one."""
    torch.manual_seed(0)
    return drawings.influence(_instance(method, 24), 24, method.id)


DRAWN: dict[str, Callable[[Method], list[Figure]]] = {
    "norm": norm, "activation": activation, "schedule": schedule, "loss": loss, "optimizer": optimizer, "flow": flow,
    "pool": pool, "block": block,
}  # fmt: skip


# --------------------------------------------------------------------------- the file


def draw(method: Method) -> dict[str, Any]:
    """Entry of one method: its key, and its figures or why there is none."""
    entry: dict[str, Any] = {"key": key_of(method)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry["figures"] = DRAWN[method.kind](method)
            if method.id == "kl_divergence":
                entry["figures"] += drawings.directions()
            if method.kind == "optimizer":
                entry["state"] = state_of(method)
    except Exception as error:  # a constructor that needs more is no reason to stop; the reason is written down
        entry |= {"figures": [], "why_not": f"{type(error).__name__}: {str(error)[:160]}"}
    return entry


def curves(reg: Registry, old: dict[str, Any], only_changed: bool = True) -> dict[str, Any]:
    """All entries; those whose key still holds are kept as they are."""
    known = old.get("methods", {})
    found = {}
    for name in sorted(reg.raw.methods):
        method = reg.method(name)
        if method.kind in DRAWN:
            kept = known.get(name)
            found[name] = kept if only_changed and kept and kept["key"] == key_of(method) else draw(method)
    return {"methods": found}


def signatures(reg: Registry) -> dict[str, Any]:
    """Parameters of the classes that come from other libraries."""
    from importlib.metadata import version

    found: dict[str, Any] = {}
    for record in reg.raw.methods.values():
        for target in (record["target"], *record.get("variants", {}).values()):
            if target.startswith("zoo."):
                continue
            library = target.split(".")[0]
            parameters = inspect.signature(load_target(target)).parameters
            found[target] = {
                "library": library,
                "version": version(library).split("+")[0],
                "parameters": {
                    n: "required" if p.default is p.empty else _shown(p.default)
                    for n, p in parameters.items()
                    if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
                },
            }
    return {"targets": dict(sorted(found.items()))}


def _shown(value: Any) -> str:
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    return str(value) if getattr(value, "name", None) else repr(value)


def main() -> int:
    """Write both files; with ``--check`` only say what is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--all", action="store_true", help="compute every figure again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = checkout_root()
    assert root is not None, "curves are made in a checkout"
    reg, folder = registry(), root / "docs" / "data"
    path, stale = folder / "curves.json", False
    old = json.loads(path.read_text()) if path.is_file() else {}
    for file, data in ((path, curves(reg, old, not options.all)), (folder / "signatures.json", signatures(reg))):
        text = json.dumps(data, separators=(",", ":")).replace('},"', '},\n"') + "\n"
        if not file.is_file() or file.read_text() != text:
            stale = True
            print(f"{file.name}: {'out of date' if options.check else 'written'}")
            if not options.check:
                write_atomic(file, text)
    for name, entry in curves(reg, json.loads(path.read_text())).get("methods", {}).items() if path.is_file() else ():
        if "why_not" in entry:
            print(f"not drawn: {name}: {entry['why_not']}")
    return int(stale and options.check)


if __name__ == "__main__":
    raise SystemExit(main())
