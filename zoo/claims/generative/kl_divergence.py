"""A fact about the two directions of the Kullback-Leibler divergence, fitted to real data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.distributions import Normal

from zoo.claims import Outcome, mean_and_spread, verdict


def directions(seeds: Sequence[int]) -> Outcome:
    """One Gaussian fitted to two: KL(p || q) covers both modes, KL(q || p) takes one of them."""
    grid = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    target = torch.logsumexp(torch.stack([Normal(m, 0.7).log_prob(grid) for m in (-3.0, 3.0)]), 0) - torch.log(
        torch.tensor(2.0)
    )
    fits: dict[str, list[float]] = {
        "forward, |mean|": [],
        "forward, std": [],
        "reverse, |mean|": [],
        "reverse, std": [],
    }
    for seed in seeds:
        for direction in ("forward", "reverse"):
            torch.manual_seed(seed)
            mean, log_std = torch.randn((), dtype=torch.float64).requires_grad_(), torch.zeros((), dtype=torch.float64)
            log_std.requires_grad_()
            optimizer = torch.optim.Adam([mean, log_std], lr=0.05)
            for _ in range(600):
                log_q = Normal(mean, log_std.exp()).log_prob(grid)
                first, second = (target, log_q) if direction == "forward" else (log_q, target)
                loss = (first.exp() * (first - second)).sum() * 0.01
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            fits[f"{direction}, |mean|"].append(abs(float(mean.detach())))
            fits[f"{direction}, std"].append(float(log_std.detach().exp()))
    return Outcome(
        status=verdict(
            max(fits["forward, |mean|"]) < 0.1, min(fits["forward, std"]) > 2.9,
            min(fits["reverse, |mean|"]) > 2.8, max(fits["reverse, std"]) < 0.8,
        ),
        measured={name: mean_and_spread(values) for name, values in fits.items()},
        setting="one Gaussian fitted to N(-3, 0.7^2) and N(3, 0.7^2) in equal parts, integrals on a grid, Adam 0.05",
        tolerance="forward: mean within 0.1 of 0, std above 2.9; reverse: one mode, |mean| above 2.8, std below 0.8",
    )  # fmt: skip
