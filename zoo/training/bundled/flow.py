"""``planar_flow_u1``: sixteen planar flows trained on the free energy of the first test density of the paper."""

from __future__ import annotations

import torch
from torch import nn

from zoo.generative._flows import FlowChain, free_energy, log_normaliser, u1
from zoo.models.small import planar_chain

STEPS, BATCH, LR, SAMPLES = 6000, 256, 5e-3, 100_000


@torch.no_grad()
def divergence(chain: nn.Module, seed: int = 1) -> float:
    """KL(q_K || p) in nats on fresh samples, the normaliser of p by quadrature."""
    z = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(seed))
    return float(free_energy(chain, u1, z).mean() + log_normaliser(u1))


def make(seed: int = 0) -> tuple[FlowChain, dict[str, float]]:
    """Adam with a cosine to zero; the energy is annealed from 0.01 to 1 over the first half of the steps."""
    torch.manual_seed(seed)
    chain = planar_chain()
    optimizer = torch.optim.Adam(chain.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        loss = free_energy(chain, u1, torch.randn(BATCH, 2), beta=min(1.0, 0.01 + 2 * step / STEPS)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(chain.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return chain, {"KL": round(divergence(chain), 4)}
