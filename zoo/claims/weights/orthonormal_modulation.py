"""Orthonormality and error modulation on digits: gradients through a deep plain network, and whether it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.weights.orthonormal_modulation import OrthonormalRegularizer, modulate_backward

DEPTH = 24


def _net(kind: str) -> nn.Sequential:
    blocks = [
        nn.Sequential(nn.Linear(64 if i == 0 else 48, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU())
        for i in range(DEPTH)
    ]
    if kind != "decay":
        for block in blocks:
            nn.init.orthogonal_(block[0].weight)  # type: ignore[arg-type]
    body = nn.Sequential(*blocks)
    if kind == "modulated":
        modulate_backward(body)
    return nn.Sequential(nn.Flatten(), body, nn.Linear(48, 10))


def deep_plain_network(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """First-to-last gradient ratio at the start, and accuracy: weight decay, orthonormality, and modulation on top."""
    data = digits()
    measured: dict[str, dict[str, float]] = {}
    for kind in ("decay", "orthonormal", "modulated"):
        ratios, scores = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            model = _net(kind)
            hidden: list[Tensor] = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][:-1]
            F.cross_entropy(model(data.x_train[:256]), data.y_train[:256]).backward()
            ratios.append(float(hidden[1].grad.norm() / hidden[-1].grad.norm()))  # type: ignore[union-attr]
            orthonormal = OrthonormalRegularizer(1e-3)

            def loss(
                logits: Tensor,
                target: Tensor,
                kind: str = kind,
                penalty: nn.Module = orthonormal,
                ws: list[Tensor] = hidden,
            ) -> Tensor:
                decay = 0.5e-4 * torch.stack([w.square().sum() for w in ws]).sum() if kind == "decay" else penalty(ws)
                return F.cross_entropy(logits, target) + decay

            fit(model, data.x_train, data.y_train, epochs=4, batch_size=64, lr=0.02, seed=seed, loss=loss)
            scores.append(accuracy(model, data.x_test, data.y_test))
        measured[f"{kind}_gradient_ratio"] = mean_and_spread(ratios)
        measured[f"{kind}_accuracy"] = mean_and_spread(scores)
    unevenness = {
        k: abs(math.log(measured[f"{k}_gradient_ratio"]["mean"])) for k in ("decay", "orthonormal", "modulated")
    }
    return Outcome(
        status=verdict(
            unevenness["orthonormal"] < unevenness["decay"] / 2,
            unevenness["modulated"] < unevenness["decay"] / 2,
            measured["orthonormal_accuracy"]["mean"] > measured["decay_accuracy"]["mean"],
            measured["modulated_accuracy"]["mean"] > measured["decay_accuracy"]["mean"],
        ),
        measured=measured,
        setting=f"digits, {DEPTH} hidden layers of 48 with BN and ReLU, no shortcuts, SGD 0.02 momentum 0.9, batch 64, "
        "4 epochs; decay 1e-4 from torch's start against penalty 1e-3 from an orthonormal start",
        tolerance="log of the first-to-last gradient ratio at most half of weight decay's, and higher mean test accuracy, "
        "for orthonormality alone and with modulation: four criteria",
    )
