"""Figures that are computed from layers in the plane: pooling regions, outer products, spectra. Imports torch, as ``zoo.site.curves``.

A figure of type ``panels`` is a row of small maps. A cell holds a letter for the region that it belongs to, or a digit for how
much it moves the output, 0 to 5.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

Figure = dict[str, Any]
SIDE = 12


def digits(values: Tensor, decades: float = 3.0) -> list[str]:
    """Magnitudes as digits 0 to 5 by their logarithm, ``decades`` below the largest and less is 0."""
    share = values.abs() / values.abs().max().clamp_min(1e-300)
    level = (5 + 5 * share.clamp_min(1e-300).log10() / decades).clamp(0, 5)
    level = torch.where(share > 10**-decades, level.round().clamp_min(1), torch.zeros_like(level))
    return ["".join(str(int(v)) for v in row) for row in level.tolist()]


def bins(layer: nn.Module, channels: int) -> list[Figure]:
    """Which positions each output of a pooling layer reads, found from the gradients of many random maps."""
    torch.manual_seed(0)
    seen: dict[int, Tensor] = {}
    for _ in range(60):  # one map shows a maximum's position, many show its bin
        x = torch.randn(1, channels, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
        out = layer(x)[0]
        for i in range(len(out)):
            (grad,) = torch.autograd.grad(out[i], x, retain_graph=True)
            if grad[0, 0].abs().sum() > 0:
                seen[i] = seen.get(i, torch.zeros(SIDE, SIDE, dtype=torch.bool)) | (grad[0, 0] != 0)
    for i, mask in seen.items():  # rectangles: a corner that was never the maximum belongs to the bin, too
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        full = torch.zeros_like(mask)
        full[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1] = True
        seen[i] = full
    levels: list[list[Tensor]] = []
    for mask in sorted(seen.values(), key=lambda m: (int(m.sum()), m.nonzero()[0].tolist())):
        free = next((tiles for tiles in levels if not any(bool((t & mask).any()) for t in tiles)), None)
        if free is None:
            levels.append([mask])
        else:
            free.append(mask)
    panels: list[dict[str, Any]] = []
    for tiles in levels:
        across = math.isqrt(len(tiles))
        cells = [["."] * SIDE for _ in range(SIDE)]
        for k, tile in enumerate(tiles):
            for r, c in tile.nonzero().tolist():
                cells[r][c] = "ab"[(k // across + k) % 2 if across % 2 == 0 else k % 2]
        panels.append({"label": f"{across} × {across} = {len(tiles)} values", "cells": ["".join(row) for row in cells]})
    return [{
        "type": "panels", "title": "Regions that are pooled, one value a channel each", "panels": panels,
        "description": f"A {SIDE} x {SIDE} map cut into bins: {', '.join(str(p['label']) for p in panels)}. Found from the layer's gradients.",
    }]  # fmt: skip


def influence(layer: nn.Module, channels: int, name: str) -> list[Figure]:
    """How much each position moves the output at three marked ones, in evaluation."""
    torch.manual_seed(0)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    layer = layer.double().eval()
    panels = []
    for r, c in ((2, 2), (5, 6), (9, 4)):
        total = torch.zeros(SIDE, SIDE, dtype=torch.float64)
        for seed in range(8):
            torch.manual_seed(seed)
            x = torch.rand(1, channels, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
            out = layer(x)
            for channel in range(0, out.shape[1], max(1, out.shape[1] // 8)):
                (grad,) = torch.autograd.grad(out[0, channel, r, c], x, retain_graph=True)
                total += grad[0].abs().sum(0)
        panels.append({"label": f"row {r + 1}, column {c + 1}", "cells": digits(total, decades=4.0), "mark": [r, c]})
    return [{
        "type": "panels", "title": "Which positions move the marked one", "panels": panels,
        "description": f"Gradients of the output of {name} at the marked position, random weights, evaluation mode; "
        "stronger colour moves it more (logarithmic, four decades).",
    }]  # fmt: skip


def outer(layer: nn.Module, channels: int) -> list[Figure]:
    """The output as a matrix: from one position alone, and from the whole map."""
    torch.manual_seed(3)
    x = torch.rand(1, channels, SIDE, SIDE, dtype=torch.float64)
    alone = torch.zeros_like(x)
    alone[..., 5, 5] = x[..., 5, 5]
    panels = []
    for label, value in (("one position: x xᵀ, rank 1", alone), ("sum over all positions", x)):
        matrix = layer.double()(value)[0].view(channels, channels).square()  # undo the signed root
        panels.append({"label": label, "cells": digits(matrix, decades=1.2 if value is x else 2.0)})
    return [{
        "type": "panels", "title": "One output a pair of channels: the outer product of every position with itself, summed", "panels": panels,
        "description": f"{channels} x {channels} matrices of the layer's output, squared to undo its signed root; stronger colour is larger.",
    }]  # fmt: skip


def spectrum(layer: nn.Module, channels: int, name: str) -> list[Figure]:
    """Eigenvalues of the channels' covariance before and after the layer, each by its largest."""
    torch.manual_seed(0)
    scale = torch.logspace(0, -2, channels, dtype=torch.float64).view(1, -1, 1, 1)
    mix = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
    x = torch.einsum("dc,nchw->ndhw", mix, torch.randn(1, channels, SIDE, SIDE, dtype=torch.float64) * scale)
    flat = x[0].flatten(1)
    before = torch.linalg.eigvalsh(torch.cov(flat, correction=0)).flip(0)
    triangle = layer.double().eval()(x)[0]
    matrix = torch.zeros(channels, channels, dtype=torch.float64)
    rows, columns = torch.triu_indices(channels, channels)
    matrix[rows, columns] = matrix[columns, rows] = triangle.double()
    after = torch.linalg.eigvalsh(matrix).flip(0)
    xs = list(range(1, channels + 1))
    lines = [
        {"label": label, "x": xs, "y": [float(f"{v:.4g}") for v in (values / values[0]).log10().tolist()], "dash": dash}
        for label, values, dash in ((name, after, False), ("covariance", before, True))
    ]
    return [{
        "type": "plot", "group": "Eigenvalues", "title": "Eigenvalues by the largest, before and after the root",
        "x_label": "eigenvalue, largest first", "y_label": "decades below the largest", "lines": lines,
        "note": "An exact root halves the decades, so that few strong directions no longer drown the others; an iteration of few steps "
        "does so for the large ones.",
    }]  # fmt: skip


def directions() -> list[Figure]:
    """A density with two modes, and the Gaussians that are closest in either direction."""
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    width = x[1] - x[0]

    def normal(mean: Tensor | float, std: Tensor | float) -> Tensor:
        return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    p = 0.6 * normal(-2.0, 0.8) + 0.4 * normal(2.2, 0.7)
    mean = (p * x).sum() * width
    forward = normal(mean, ((p * (x - mean) ** 2).sum() * width).sqrt())  # moments match at the minimum of KL(p || q)
    means, stds = torch.linspace(-4, 4, 161), torch.linspace(0.3, 3, 109)
    q = torch.stack([normal(float(m), float(s)) for m in means for s in stds])
    reverse = q[(torch.xlogy(q, q) - q * p.clamp_min(1e-300).log()).sum(1).argmin()]
    xs = [float(f"{v:.4g}") for v in x.tolist()]
    lines = [
        {"label": label, "x": xs, "y": [float(f"{v:.4g}") for v in values.tolist()], "dash": dash}
        for label, values, dash in (
            ("p", p, True), ("q of least KL(p || q)", forward, False), ("q of least KL(q || p)", reverse, False)
        )
    ]  # fmt: skip
    return [{
        "type": "plot", "title": "The two directions", "x_label": "x", "y_label": "density", "lines": lines,
        "note": "The first covers both modes and what lies between; the second takes the larger one.",
    }]  # fmt: skip
