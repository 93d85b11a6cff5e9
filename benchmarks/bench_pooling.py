"""Second-order pooling: what the features and the step cost in memory, and the matrix square root against the authors' form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_methods import isqrt_cov
from common import main, peak_megabytes, row
from torch import Tensor

import zoo


def _step(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    leaf = x.clone().requires_grad_()

    def run() -> None:
        leaf.grad = None
        function(leaf).sum().backward()

    return run


def bilinear() -> list[dict[str, Any]]:
    """All of C^2 products against the weighted triangle."""
    x = torch.randn(8, 256, 14, 14)
    full, half = (zoo.create("bilinear_pooling", 256, half=h) for h in (False, True))
    what, against = "peak of forward and backward, float32", "all C^2 features"
    peaks = [peak_megabytes(_step(layer, x)) for layer in (half, full)]
    with torch.no_grad():
        stored = [layer(x).numel() * 4 / 1e6 for layer in (half, full)]
    return [
        row("bilinear_pooling half, memory of a step", f"8x256x14x14, {what}", *peaks, 0.6, 1, against, "MB"),
        row("bilinear_pooling half, features", "8x256x14x14, the output itself", *stored, 0.6, 1, against, "MB"),
    ]


def run() -> list[dict[str, Any]]:
    square_roots = isqrt_cov()
    for r in square_roots:
        r["target"], r["met"] = 0.8, r["ratio"] <= 0.8
    return [*bilinear(), *square_roots]


if __name__ == "__main__":
    main("pooling", run)
