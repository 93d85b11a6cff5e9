"""Claims of EvoNorm (arXiv 2004.02967)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.normalization._nets import Chunked, Norm
from zoo.claims.train import accuracy, fit
from zoo.normalization.evonorm import EvoNormB0, EvoNormS0


def _net(norm_act: Norm, width: int = 32) -> nn.Sequential:
    """Three convolutions, each followed by norm and activation in one."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), norm_act(after)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def _bn_relu(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def _s0(channels: int) -> nn.Module:
    return EvoNormS0(channels, groups=8)


def small_batch(seeds: Sequence[int]) -> Outcome:
    """The same training with normalising batches of two inside an SGD batch of 16."""
    kinds: dict[str, Norm] = {
        "bn_relu": _bn_relu,
        "bn_relu_2": lambda c: Chunked(_bn_relu(c), 2),
        "evonorm_b0": EvoNormB0,
        "evonorm_s0": _s0,
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for seed in seeds:
        data = digits(seed=seed)
        for name, norm in kinds.items():
            torch.manual_seed(seed)
            model = _net(norm)
            fit(model, data.x_train, data.y_train, epochs=3, batch_size=16, lr=0.05, seed=seed)
            found[name].append(accuracy(model, data.x_test, data.y_test))
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    ahead = all(s > b for s, b in zip(found["evonorm_s0"], found["bn_relu_2"], strict=True))
    return Outcome(
        status=verdict(ahead, mean["evonorm_s0"] >= mean["bn_relu"] - 2),
        measured={name: mean_and_spread(values) for name, values in found.items()},
        setting=(
            "scikit-learn digits (500 held out), three-layer CNN, SGD 0.05 with momentum 0.9, SGD batch 16, 3 epochs; "
            "normalising batch 2 where a 2 stands behind the name; S0 with 8 groups, independent of either batch"
        ),
        tolerance="S0 above BN-ReLU with batch 2 in every seed, and at most 2 points below BN-ReLU with batch 16 on average",
    )


def batch_free(seeds: Sequence[int]) -> Outcome:
    """Largest change of a sample's output in training mode when its company changes."""
    changes: dict[str, list[float]] = {"evonorm_s0": [], "evonorm_b0": []}
    for seed in seeds:
        data = digits(seed=seed)
        for name, norm in (("evonorm_s0", _s0), ("evonorm_b0", EvoNormB0)):
            torch.manual_seed(seed)
            model = _net(norm)
            fit(model, data.x_train, data.y_train, epochs=1, batch_size=32, lr=0.05, seed=seed)
            with torch.no_grad():
                whole, pairs = model(data.x_test), torch.cat([model(x) for x in data.x_test.split(2)])
            changes[name].append(float((whole - pairs).abs().max()))
    return Outcome(
        status=verdict(max(changes["evonorm_s0"]) < 1e-4, min(changes["evonorm_b0"]) > 0.1),
        measured={f"{name}_largest_logit_change": mean_and_spread(values) for name, values in changes.items()},
        setting="scikit-learn digits, three-layer CNN after 1 epoch; 500 held-out digits in training mode, all at once or two at a time",
        tolerance="S0: logits change by less than 1e-4 in every seed; B0: by more than 0.1",
    )
