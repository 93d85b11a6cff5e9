"""meProp: forward and backward of one linear layer against the dense one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from common import interleave, main, row
from torch import nn

import zoo


def meprop(rounds: int = 25) -> list[dict[str, Any]]:
    rows = []
    for width, batch, k in ((500, 50, 30), (2048, 256, 82)):
        x, grad = torch.randn(batch, width), torch.randn(batch, width)

        def step(layer: nn.Module, x: torch.Tensor = x, grad: torch.Tensor = grad) -> Callable[[], None]:
            leaf = x.clone().requires_grad_()

            def run() -> None:
                leaf.grad = None
                layer.zero_grad()
                layer(leaf).backward(grad)

            return run

        layers = {
            "dense": nn.Linear(width, width),
            "unified": zoo.create("meprop", width, width, k=k),
            "per_example": zoo.create("meprop", width, width, k=k, mode="per_example"),
        }
        found = interleave({name: step(layer) for name, layer in layers.items()}, rounds)
        what = f"{width} to {width}, batch {batch}, k {k}, forward and backward"
        for mode, wanted in (("unified", 1.0), ("per_example", None)):
            rows.append(
                row(f"meprop {mode}, width {width}", what, found[mode], found["dense"], wanted, rounds, "nn.Linear")
            )
    return rows


if __name__ == "__main__":
    main("backward", meprop)
