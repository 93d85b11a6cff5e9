"""One step of each own optimizer over ResNet-50's parameters, against AdamW and against pytorch-optimizer where it has it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import timm
import torch
from common import interleave, main, row
from torch import nn

import zoo

OWN = ("lans", "adax", "adax_w", "adabound", "amsbound")


def _stepper(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], None]:
    torch.manual_seed(0)
    parameters = [nn.Parameter(p.detach().clone()) for p in timm.create_model("resnet50").parameters()]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer = make(parameters)
    return lambda: optimizer.step() and None


def run(rounds: int = 9) -> list[dict[str, Any]]:
    candidates = {name: _stepper(lambda ps, n=name: zoo.create(n, ps, lr=1e-3)) for name in OWN}
    candidates["adamw"] = _stepper(lambda ps: torch.optim.AdamW(ps, lr=1e-3, foreach=True))
    other: dict[str, str] = {}
    if find_spec("pytorch_optimizer") is not None:  # an optional oracle: its rows are left out without it
        from pytorch_optimizer import AdaBound

        for name, ams in (("adabound", False), ("amsbound", True)):
            other[name] = f"pytorch-optimizer {name}"
            candidates[other[name]] = _stepper(lambda ps, a=ams: AdaBound(ps, lr=1e-3, ams_bound=a))
    found = interleave(candidates, rounds)
    what, adamw = "25.6 M values, 161 tensors", "torch.optim.AdamW(foreach=True)"
    rows = [row(f"{name} step", what, found[name], found["adamw"], 1.2, rounds, adamw) for name in OWN]
    return rows + [
        row(f"{name} step, peer", what, found[name], found[peer], 0.9, rounds, f"{peer}, its defaults")
        for name, peer in other.items()
    ]


if __name__ == "__main__":
    main("optimizers", run)
