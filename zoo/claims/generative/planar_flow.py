"""Claims of Variational Inference with Normalizing Flows: exact log-determinants, and what length buys."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.generative._flows import FlowChain, free_energy, log_normaliser, u1
from zoo.generative.planar_flow import PlanarFlow
from zoo.generative.radial_flow import RadialFlow

LENGTHS = (2, 8)
STEPS, BATCH = 1000, 256


def log_det(seeds: Sequence[int]) -> Outcome:
    """The linear-time log-determinant of both flows equals that of the full Jacobian, along chains of 8."""
    worst: dict[str, float] = {"planar": 0.0, "radial": 0.0}
    for seed in seeds:
        for name, kind in (("planar", PlanarFlow), ("radial", RadialFlow)):
            torch.manual_seed(seed)
            chain = FlowChain(kind(4) for _ in range(8)).double()
            for parameter in chain.parameters():
                torch.nn.init.normal_(parameter)
            for row in torch.randn(10, 4, dtype=torch.float64):
                jacobian = torch.autograd.functional.jacobian(lambda x, c=chain: c(x[None])[0][0], row)
                error = chain(row[None])[1][0] - torch.linalg.slogdet(jacobian)[1]
                worst[name] = max(worst[name], abs(float(error.detach())))
    return Outcome(
        status=verdict(worst["planar"] < 1e-9, worst["radial"] < 1e-9),
        measured={f"{name}, largest error in nats": error for name, error in worst.items()},
        setting="chains of 8 flows in 4 dimensions, parameters N(0, 1), 10 points a seed, float64",
        tolerance="below 1e-9 for both flows",
    )


def kl_to_u1(length: int, seed: int) -> float:
    """KL(q_K || p) after training on the free energy of the first test density, on 100 000 fresh samples."""
    torch.manual_seed(seed)
    chain = FlowChain(PlanarFlow(2, init_std=0.5) for _ in range(length))
    optimizer = torch.optim.Adam(chain.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        loss = free_energy(chain, u1, torch.randn(BATCH, 2), beta=min(1.0, 0.01 + 2 * step / STEPS)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chain.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(free_energy(chain, u1, torch.randn(100_000, 2)).mean() + log_normaliser(u1))


def length_helps(seeds: Sequence[int]) -> Outcome:
    """On the ring with two modes the KL divergence falls as the flow gets longer."""
    found = {length: [kl_to_u1(length, seed) for seed in seeds] for length in LENGTHS}
    mean = {length: sum(values) / len(values) for length, values in found.items()}
    return Outcome(
        status=verdict(mean[2] > 2 * mean[8]),
        measured={f"KL in nats, K = {length}": mean_and_spread(values) for length, values in found.items()},
        setting=f"planar flows on U1, Adam 1e-2 with cosine decay, {STEPS} steps of {BATCH}, annealed for half",
        tolerance="mean KL at K = 8 below half of that at K = 2",
    )
