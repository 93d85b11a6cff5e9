"""What the claims on CIFAR-10 share: one small network, one training, accuracy by kind of norm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import nn

from zoo.claims import mean_and_spread
from zoo.claims.data import cifar10
from zoo.claims.normalization._nets import Chunked, Norm
from zoo.claims.train import accuracy, fit
from zoo.normalization.batch_renorm import BatchRenorm2d
from zoo.normalization.moving_average_bn import CentredConv2d, MovingAverageBatchNorm2d
from zoo.weights.weight_standardization import WSConv2d

EPOCHS, BATCH, MICRO, WIDTH, LR = 12, 32, 2, 32, 0.05
SETTING = (
    "CIFAR-10 re-encoded as JPEG, the first 300 training and 200 test images of every class; three 3 x 3 convolutions of "
    f"stride 2 ({WIDTH}, {2 * WIDTH}, {4 * WIDTH} channels) with norm and ReLU, mean over positions, linear; SGD {LR} with "
    f"momentum 0.9, SGD batch {BATCH}, {EPOCHS} epochs, no augmentation; normalising batch {MICRO} where a 2 stands behind "
    f"the name, {BATCH} else"
)


@lru_cache(maxsize=64)
def held_out(name: str, seed: int) -> float:
    """Test accuracy in percent; ``name`` is the norm, ``ws_gn`` for standardised weights, ``_2`` for batches of two."""
    data = cifar10()
    torch.manual_seed(seed)
    kind, _, size = name.removeprefix("ws_").partition("_")
    steps = len(data.x_train) // BATCH * EPOCHS * (BATCH // int(size) if size else 1)
    norms: dict[str, Norm] = {
        "bn": nn.BatchNorm2d,
        "brn": lambda c: BatchRenorm2d(c, total_steps=steps),
        "mabn": lambda c: MovingAverageBatchNorm2d(c, buffer_size=BATCH // MICRO),
        "gn": lambda c: nn.GroupNorm(8, c),
    }
    conv = CentredConv2d if kind == "mabn" else WSConv2d if name.startswith("ws_") else nn.Conv2d
    layers: list[nn.Module] = []
    channels = [3, WIDTH, 2 * WIDTH, 4 * WIDTH]
    for before, after in pairwise(channels):
        norm = norms[kind](after)
        layers.append(conv(before, after, 3, stride=2, padding=1, bias=False))
        layers += [Chunked(norm, int(size)) if size else norm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))
    mean, std = data.x_train.mean((0, 2, 3), keepdim=True), data.x_train.std((0, 2, 3), keepdim=True)
    x_train, x_test = (data.x_train - mean) / std, (data.x_test - mean) / std
    fit(model, x_train, data.y_train, epochs=EPOCHS, batch_size=BATCH, lr=LR, seed=seed)
    return accuracy(model, x_test, data.y_test)


def runs(names: Sequence[str], seeds: Sequence[int]) -> dict[str, list[float]]:
    """Accuracies by name, one a seed."""
    return {name: [round(held_out(name, seed), 2) for seed in seeds] for name in names}


def means(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in found.items()}


def measured(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {name: mean_and_spread(values) for name, values in found.items()}
