"""Claim of AutoAugment, tried far from home: its digit policy on few handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.claims.train import accuracy, batches

TRAIN, EPOCHS = 1000, 12


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


def augmented(x: Tensor, transform: AutoAugment) -> Tensor:
    """Each grey image through the policy as three equal uint8 channels."""
    rgb = (x * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    return torch.stack([transform(image)[:1] for image in rgb]).float() / 255


def error(policy: AutoAugmentPolicy | None, seed: int) -> float:
    data, model = mnist5k(), network(seed)
    x, y = data.x_train[:TRAIN], data.y_train[:TRAIN]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    transform = AutoAugment(policy) if policy else None
    for _ in range(EPOCHS):
        seen = augmented(x, transform) if transform else x
        for index in batches(TRAIN, 50, generator):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(seen[index]), y[index]).backward()
            optimizer.step()
    return 100 - accuracy(model, data.x_test, data.y_test)


def transfers_to_digits(seeds: Sequence[int]) -> Outcome:
    """Does a policy found on one data set help on another? The house-number policy on handwritten digits."""
    plain = [error(None, seed) for seed in seeds]
    policy = [error(AutoAugmentPolicy.SVHN, seed) for seed in seeds]
    return Outcome(
        status=verdict(sum(policy) < sum(plain)),
        measured={"test error %, none": mean_and_spread(plain), "test error %, SVHN policy": mean_and_spread(policy)},
        setting=f"{TRAIN} of MNIST-5k's images, 1000 for test, two 3x3 convolutions, Adam 2e-3, {EPOCHS} epochs",
        tolerance="mean test error with the policy below that without",
    )
