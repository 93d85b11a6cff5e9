"""What distinguishes the norms, measured on the layers themselves: ``python -m zoo.factory.norm_table --write``.

Nothing here is declared by hand: axes of the statistics, dependence on the batch, training against evaluation, state,
parameters and folding follow from changing inputs and watching outputs.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.registry.lookup import registry

C, SHAPE = 64, (4, 64, 5, 6)
#: Methods whose first steps are another method by their schedule are measured behind it.
SETTINGS: dict[str, dict[str, Any]] = {
    "batch_renorm": {"schedule": (0, 1, 1)},
    "moving_average_bn": {"buffer_size": 2, "warmup": 2, "clip_after": 2},
}
#: What each measurement means; the table carries it.
MEANING = {
    "settings": "arguments other than the defaults under which it was measured",
    "reads": "which other values the output at one (sample, channel, position) depends on, in training",
    "reads_eval": "the same in evaluation",
    "batch_dependent": "another sample changes the output, in training on data like those before (inside any clips)",
    "batch_dependent_gradient": "another sample changes the gradient of the input, likewise",
    "previous_batches": "what earlier training batches held changes the output in training",
    "train_equals_eval": "training and evaluation give the same output for the same state",
    "one_sample": "a batch of one sample of 5 x 6 positions trains with a finite gradient",
    "one_value": "one sample of 1 x 1 trains with a finite gradient",
    "folds": "zoo.fold takes it into the convolution before, with equal outputs",
    "parameters": "learned values for C = 64",
    "buffers": "stored values for C = 64, by name",
    "cost": "forward and backward time over nn.BatchNorm2d's, from benchmarks/results/normalization.json when this was written",
    "use": "what it is for, from docs/data/decisions.json",
}


def norms() -> list[str]:
    """All methods of kind norm."""
    return [n for n, m in registry().raw.methods.items() if m["kind"] == "norm"]


def _make(name: str) -> nn.Module:
    """A new layer in float64, its parameters drawn so that none is one or zero."""
    torch.manual_seed(0)
    layer: nn.Module = zoo.create(name, C, **SETTINGS.get(name, {})).double()
    for p in layer.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    return layer


def _trained(name: str, offset: float = 0.0) -> nn.Module:
    """As :func:`_make`, then three training steps on data around ``offset``."""
    layer: Any = _make(name).train()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(SHAPE, generator=generator, dtype=torch.float64) + offset
        layer(x.requires_grad_()).square().mean().backward()
        if hasattr(layer, "weight_update"):
            layer.weight_update()
    trained: nn.Module = layer
    trained.zero_grad()
    return trained


def _input() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _output(layer: nn.Module, x: Tensor) -> Tensor:
    """Output of a copy: a training pass must not move the state that the next one is compared with."""
    twin: Any = copy.deepcopy(layer)
    with torch.no_grad():
        out: Tensor = twin(x)
    return out


def _gradient_reads_samples(layer: nn.Module) -> bool:
    """Whether the gradient of sample 0, for a fixed linear loss, moves when the other samples do."""
    found = []
    for change in (0.0, 3.0):
        x, twin = _input(), copy.deepcopy(layer)
        x[1:, 0, 2, 3] += change
        y = twin(x.requires_grad_())
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
        assert x.grad is not None
        found.append(x.grad[0])
    return bool((found[0] - found[1]).abs().max() > 1e-12)


def _changed(layer: nn.Module, sample: int, channel: int | None, position: tuple[int, int]) -> bool:
    """Whether the output at sample 0, channel 0, position (0, 0) moves when other values of the input do."""
    x, y = _input(), _input()
    if channel is None:  # every other channel, because methods with groups look at some of them
        y[sample, 1:, position[0], position[1]] += 3.0
    else:
        y[sample, channel, position[0], position[1]] += 3.0
    before, after = _output(layer, x), _output(layer, y)
    return bool((before - after)[0, 0, 0, 0].abs() > 1e-12)


def _reads(layer: nn.Module) -> list[str]:
    found = {
        "positions": _changed(layer, 0, 0, (2, 3)),
        "channels": _changed(layer, 0, None, (0, 0)),
        "samples": any(_changed(layer, s, 0, (0, 0)) for s in (1, 2, 3)),
    }
    return [axis for axis, moved in found.items() if moved]


def _trains(name: str, shape: tuple[int, ...]) -> bool:
    torch.manual_seed(4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    try:
        y = _make(name).train()(x)
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    except ValueError:
        return False
    return bool(torch.isfinite(y).all()) and x.grad is not None and bool(torch.isfinite(x.grad).all())


def _folds(name: str) -> bool:
    model = nn.Sequential(nn.Conv2d(3, C, 1).double(), _trained(name, 0.5)).eval()
    _, report = zoo.fold(model, torch.randn(2, 3, 5, 6, dtype=torch.float64))
    return bool(report.folded) and report.folded[0].path == "1" and report.error < 1e-10


def measure_one(name: str) -> dict[str, Any]:
    """The row of one norm."""
    layer = _trained(name)
    training = _output(layer, _input())
    reads = _reads(layer)
    return {
        "paper": registry().method(name).paper,
        "settings": SETTINGS.get(name, {}),
        "reads": reads,
        "reads_eval": _reads(copy.deepcopy(layer).eval()),
        "batch_dependent": "samples" in reads,
        "batch_dependent_gradient": _gradient_reads_samples(layer),
        "previous_batches": not torch.allclose(training, _output(_trained(name, 2.0), _input()), atol=1e-9),
        "train_equals_eval": torch.allclose(training, _output(copy.deepcopy(layer).eval(), _input()), atol=1e-9),
        "one_sample": _trains(name, (1, C, 5, 6)),
        "one_value": _trains(name, (1, C, 1, 1)),
        "folds": _folds(name),
        "parameters": sum(p.numel() for p in layer.parameters()),
        "buffers": {k: b.numel() for k, b in layer.named_buffers()},
    }


def _read(root: Path, *parts: str) -> dict[str, Any]:
    file = root.joinpath(*parts)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def costs(root: Path) -> dict[str, float]:
    """Norm -> time of forward and backward over batch norm's, contiguous memory, as the committed benchmark has it."""
    rows = _read(root, "benchmarks", "results", "normalization.json").get("rows", [])
    found = {r["name"].removesuffix(", contiguous"): r["ratio"] for r in rows if r["name"].endswith(", contiguous")}
    return {"batch_norm": 1.0, **{name: round(ratio, 2) for name, ratio in found.items()}}


def measure(root: Path) -> dict[str, Any]:
    """All rows, in the registry's order."""
    cost = costs(root)
    use = _read(root, "docs", "data", "decisions.json").get("normalization", {}).get("use", {})
    rows = {n: {**measure_one(n), "cost": cost.get(n), "use": use.get(n, "")} for n in norms()}
    return {"meaning": MEANING, "channels": C, "norms": rows}


def dumps(table: dict[str, Any]) -> str:
    """The committed form: one norm a line."""
    rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table["norms"].items())
    meaning = json.dumps(table["meaning"])
    return f'{{\n "meaning": {meaning},\n "channels": {table["channels"]},\n "norms": {{\n{rows}\n }}\n}}\n'


def main() -> None:
    from zoo.registry.files import checkout_root

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--write", action="store_true", help="write docs/data/norm_table.json")
    arguments = parser.parse_args()
    if (root := checkout_root()) is None:
        raise SystemExit("the table is made in a checkout")
    text = dumps(measure(root))
    if arguments.write:
        (root / "docs" / "data" / "norm_table.json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
