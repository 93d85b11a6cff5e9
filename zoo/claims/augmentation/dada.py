"""Claims of DADA: the estimator's variance, and a search on few digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.augmentation.dada import DADA, policy_gradients, relax_bernoulli
from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import batches

TRAIN, STEPS, EPOCHS = 200, 100, 15


def relax_variance(seeds: Sequence[int]) -> Outcome:
    """RELAX against REINFORCE on the gradient of a coin flip: with the loss itself as control variate, and with a better one."""

    def toy(b: Tensor) -> Tensor:
        return (b - 0.45).square()

    def linear(z: Tensor) -> Tensor:
        return 0.2025 + 0.1 * torch.sigmoid(z)  # joins toy(0) and toy(1)

    controls = {"the loss at the relaxed coin": lambda z: toy(torch.sigmoid(z)), "linear in the relaxed coin": linear}
    ratios: dict[str, list[float]] = {name: [] for name in controls}
    bias = []
    for seed in seeds:
        logits = torch.zeros(100_000, dtype=torch.float64)
        plain = relax_bernoulli(toy, logits, lambda z: torch.zeros_like(z), torch.Generator().manual_seed(seed))
        for name, control in controls.items():
            relaxed = relax_bernoulli(toy, logits, control, torch.Generator().manual_seed(seed))
            ratios[name].append(float(relaxed.var() / plain.var()))
            bias.append(abs(float(relaxed.mean()) - 0.1 / 4))
    return Outcome(
        status=verdict(*(max(r) < 0.5 for r in ratios.values()), max(bias) < 1e-3),
        measured={
            **{f"variance, RELAX / REINFORCE, control: {k}": mean_and_spread(v) for k, v in ratios.items()},
            "largest error of the mean": max(bias),
        },
        setting="E(b - 0.45)^2 at p = 0.5, two fixed control variates (the paper learns its own), 100 000 draws a seed",
        tolerance="variance below half with either control, mean within 0.001 of the exact gradient, in every seed",
    )


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def search(seed: int) -> DADA:
    data, model = digits(seed=seed), network(seed)
    policy = DADA()
    x, y = data.x_train[:TRAIN], data.y_train[:TRAIN]
    of_policy = torch.optim.Adam(policy.parameters(), lr=5e-3, betas=(0.5, 0.999))
    of_model = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    half = TRAIN // 2
    for _ in range(STEPS):
        i, j = torch.randint(half, (32,)), half + torch.randint(half, (32,))
        policy_gradients(model, policy, (x[i], y[i]), (x[j], y[j]), lr=0.1)
        of_policy.step()
        with torch.no_grad():
            policy.magnitude.clamp_(0, 1)
            seen = policy(x[i])
        of_model.zero_grad(set_to_none=True)
        F.cross_entropy(model(seen), y[i]).backward()
        of_model.step()
    return policy.eval()


def error(policy: DADA | None, seed: int) -> float:
    data, model = digits(seed=seed), network(seed + 50)
    x, y = data.x_train[:TRAIN], data.y_train[:TRAIN]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        seen = policy(x) if policy is not None else x
        for index in batches(TRAIN, 30, generator):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(seen[index]), y[index]).backward()
            optimizer.step()
    with torch.no_grad():
        return 100 * float((model(data.x_test).argmax(1) != data.y_test).float().mean())


def search_helps(seeds: Sequence[int]) -> Outcome:
    """A searched policy against none, and against one drawn from all pairs without search."""
    found: dict[str, list[float]] = {"none": [], "all pairs, no search": [], "searched": []}
    for seed in seeds:
        found["none"].append(error(None, seed))
        found["all pairs, no search"].append(error(DADA(keep=105).eval(), seed))
        found["searched"].append(error(search(seed), seed))
    mean = {name: sum(v) / len(v) for name, v in found.items()}
    return Outcome(
        status=verdict(mean["searched"] < mean["none"], mean["searched"] < mean["all pairs, no search"]),
        measured={f"test error %, {name}": mean_and_spread(v) for name, v in found.items()},
        setting=f"{TRAIN} digits 8x8 for search and training, MLP 64-64-10, {STEPS} search steps, {EPOCHS} epochs of Adam",
        tolerance="mean test error of the searched policy below that of none, and below that without search",
    )
