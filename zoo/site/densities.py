"""Pictures of densities that flows learn: ``python -m zoo.site.densities`` trains them, about two minutes, and writes ``docs/data/densities.json``.

A chain of each flow is fitted to the four test energies by the free energy, as the claims do. Density is counted from samples.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

from zoo.generative._flows import ENERGIES, FlowChain, free_energy, wall
from zoo.generative.planar_flow import PlanarFlow
from zoo.generative.radial_flow import RadialFlow
from zoo.registry.files import PACKAGE, checkout_root, write_atomic
from zoo.site.sources import meaning

FLOWS: dict[str, type[nn.Module]] = {"planar_flow": PlanarFlow, "radial_flow": RadialFlow}
LENGTH, STEPS, BATCH, SEED = 12, 1500, 256, 0
POINTS, BOUND, SAMPLES = 40, 4.0, 400_000


def key_of(name: str) -> str:
    """Hash over the sources of the flow and of the energies and over the settings."""
    sources = [PACKAGE / "generative" / f"{module}.py" for module in (name, "_flows")]
    trees = [meaning(path) for path in sources]
    return hashlib.sha256(json.dumps([trees, LENGTH, STEPS, BATCH, SEED, POINTS, SAMPLES]).encode()).hexdigest()[:16]


def levels(density: Tensor) -> list[str]:
    """Rows from the top, digits 0 to 5 linear in the density, by its 99.5 % quantile."""
    share = (density / torch.quantile(density.flatten(), 0.995)).clamp(0, 1)
    return ["".join(str(int(v)) for v in row) for row in (share * 5).round().flip(0).tolist()]


def target(name: str) -> Tensor:
    """The density of an energy on the grid, ``(y, x)``."""
    axis = -BOUND + 2 * BOUND / POINTS * (torch.arange(POINTS) + 0.5)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.exp(-ENERGIES[name](torch.stack((x, y), -1)))


def learned(flow: type[nn.Module], name: str) -> Tensor:
    """Where samples of a trained chain fall, ``(y, x)``."""
    torch.manual_seed(SEED)
    energy = ENERGIES[name] if name == "u1" else wall(ENERGIES[name])
    chain = FlowChain(flow(2, init_std=0.5) for _ in range(LENGTH))
    optimizer = torch.optim.Adam(chain.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        beta = min(1.0, 0.01 + 2 * step / STEPS)
        loss = free_energy(chain, energy, torch.randn(BATCH, 2), beta=beta).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(chain.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        z = chain(torch.randn(SAMPLES, 2))[0]
    at = ((z + BOUND) / (2 * BOUND) * POINTS).floor().long()
    at = at[((at >= 0) & (at < POINTS)).all(1)]
    return torch.bincount(at[:, 1] * POINTS + at[:, 0], minlength=POINTS**2).view(POINTS, POINTS).float()


def main() -> int:
    """Train what changed and write the file."""
    torch.set_num_threads(1)
    root = checkout_root()
    assert root is not None, "densities are made in a checkout"
    path = root / "docs" / "data" / "densities.json"
    old: dict[str, Any] = json.loads(path.read_text())["methods"] if path.is_file() else {}
    found = {}
    for name, flow in FLOWS.items():
        key = key_of(name)
        if old.get(name, {}).get("key") == key:
            found[name] = old[name]
            continue
        panels = []
        for energy in ENERGIES:
            panels.append({"label": f"{energy.upper()}, target", "cells": levels(target(energy))})
            panels.append(
                {"label": f"{energy.upper()}, {LENGTH} steps of {name}", "cells": levels(learned(flow, energy))}
            )
        description = (
            f"Left the density exp(-U) on [-4, 4]², right where {SAMPLES:,} samples fall after {LENGTH} trained steps (free energy, Adam, "
            f"{STEPS} batches of {BATCH}, seed {SEED}). U2 to U4 were trained inside a quadratic wall."
        )
        figure = {
            "type": "panels", "title": "The four test densities and what the flow makes of a Gaussian", "panels": panels,
            "description": description, "cell": 4,
        }  # fmt: skip
        found[name] = {"key": key, "figures": [figure]}
    write_atomic(path, json.dumps({"methods": found}, separators=(",", ":")).replace('},{"', '},\n{"') + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
