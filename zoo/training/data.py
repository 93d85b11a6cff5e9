"""Data of a recipe: splits that never overlap, noise on the training labels only, batches by index.

Order of the steps, each with its own seed: test set (clean), clean meta set, long tail, noise, validation set (noisy).
The index that algorithms see is the position in the training set that is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.training.folders import read_folder
from zoo.training.names import augmentation
from zoo.training.noise import clean_split, long_tail, noisy_labels
from zoo.training.recipe import Loaded
from zoo.training.samples import Samples

NORMALISE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.5,), (0.5,)), "mnist5k": ((0.1307,), (0.3081,)),
}  # fmt: skip


@dataclass
class Data:
    """Everything that a run reads. ``truth`` holds the training labels before noise."""

    train: Samples
    truth: Tensor
    test: Samples
    validation: Samples | None
    meta: Samples | None
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        _, c, h, w = self.train.images.shape
        return c, h, w

    @property
    def wrong(self) -> Tensor:
        """``(N,)`` bool: training labels that noise changed."""
        return self.train.labels != self.truth

    def to(self, device: torch.device) -> Data:
        validation, meta = (None if s is None else s.to(device) for s in (self.validation, self.meta))
        parts = (self.train.to(device), self.truth.to(device), self.test.to(device), validation, meta)
        return Data(*parts, self.classes, self.mean.to(device), self.std.to(device))

    def prepare(self, images: Tensor) -> Tensor:
        """Images to what the network takes: float32, mean and deviation taken off."""
        images = images.to(self.mean.device, non_blocking=True)
        x = images.float().div_(255) if images.dtype == torch.uint8 else images
        return (x - self.mean) / self.std

    def take(self, samples: Samples, index: Tensor) -> Tensor:
        return self.prepare(samples.images[index])

    def fingerprint(self) -> str:
        """Hash of the training labels and of 64 images spread over the set: has what lies on the disk changed?"""
        labels = self.train.labels.cpu()
        spread = torch.arange(min(64, len(labels))) * len(labels) // max(1, min(64, len(labels)))
        images = self.train.images[spread.to(self.train.labels.device)].cpu().contiguous()
        found = hashlib.blake2b(labels.numpy().tobytes(), digest_size=16)
        found.update(images.numpy().tobytes())
        return found.hexdigest()


def load_data(loaded: Loaded) -> Data:
    """Read, split and make noisy what the recipe names.

    Raises:
        RecipeError: too few samples for the splits, a folder without classes, labels out of range, wrong statistics.
    """
    part, noise = loaded.recipe.data, loaded.recipe.noise
    seed = loaded.recipe.seed if part.seed is None else part.seed
    pool, test, classes = _read(loaded, seed)
    k, labels = len(classes), pool.labels
    if int(labels.min()) < 0 or int(labels.max()) >= k:
        raise loaded.error(
            ("data",), f"labels lie in [{int(labels.min())}, {int(labels.max())}], there are {k} classes"
        )
    meta = None
    try:
        if part.clean_per_class:
            keep, held = clean_split(labels, part.clean_per_class, k, seed)
            meta, pool = pool.subset(held), pool.subset(keep)
        if part.long_tail is not None:
            pool = pool.subset(long_tail(pool.labels, part.long_tail, k, seed))
        truth = pool.labels
        if noise is not None and noise.name == "cifar_n":
            from zoo.training.cifar_n import given_labels

            pool = replace(pool, labels=given_labels(loaded, pool, k))
        elif noise is not None:
            assert noise.rate is not None
            noise_seed = loaded.recipe.seed if noise.seed is None else noise.seed
            features = None
            if noise.name == "instance_dependent":
                features = pool.images[torch.arange(len(pool))].float()
            given = noisy_labels(truth, noise.name, noise.rate, k, noise_seed, features, noise.exact)
            pool = replace(pool, labels=given)
    except ValueError as error:
        raise loaded.error(
            ("noise",) if "noise" in str(error) or "defined for" in str(error) else ("data",), str(error)
        ) from None
    validation = None
    if held_out := int(len(pool) * part.validation):
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed + 1))
        aside, keep = order[:held_out], order[held_out:].sort().values
        validation, pool, truth = pool.subset(aside), pool.subset(keep), truth[keep]
    mean, std = _statistics(loaded, int(pool.images.shape[1]))
    return Data(pool, truth, test, validation, meta, classes, mean, std)


def _statistics(loaded: Loaded, channels: int) -> tuple[Tensor, Tensor]:
    part = loaded.recipe.data
    mean, std = NORMALISE.get(part.name, ((0.5,) * channels, (0.5,) * channels))
    if part.mean is not None and part.std is not None:
        mean, std = part.mean, part.std
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise loaded.error(
            ("data", "mean"), f"mean and std have {channels} values each, std positive; received {mean}, {std}"
        )
    shape = (1, channels, 1, 1)
    return torch.tensor(mean).view(shape), torch.tensor(std).view(shape)


def _read(loaded: Loaded, seed: int) -> tuple[Samples, Samples, tuple[str, ...]]:
    part = loaded.recipe.data
    if part.name == "folder":
        return read_folder(loaded, seed)
    if part.name == "timm":
        from zoo.training.timm_data import read_timm

        return read_timm(loaded, seed)
    from zoo.claims import data

    size, total = (part.test or 500, 1797) if part.name == "digits" else (part.test or 1000, 5000)
    if size >= total:
        raise loaded.error(("data", "test"), f"{part.name} has {total} samples, {size} were to be held out")
    split = getattr(data, part.name)(test=size, seed=seed)
    classes = tuple(str(i) for i in range(10))
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))  # how the split was drawn
    train = Samples(split.x_train, split.y_train, order[:-size])
    return train, Samples(split.x_test, split.y_test, order[-size:]), classes


# --------------------------------------------------------------------------- augmentation of a batch


def shift(x: Tensor, pixels: int = 4) -> Tensor:
    """Each image moved by up to ``pixels`` each way, zeros coming in: ``(N, C, H, W)`` to the same."""
    n, c, h, w = x.shape
    dy, dx = torch.randint(0, 2 * pixels + 1, (2, n)).to(x.device)
    padded = F.pad(x, (pixels, pixels, pixels, pixels))
    rows = (dy[:, None] + torch.arange(h, device=x.device)).view(n, 1, h, 1)
    columns = (dx[:, None] + torch.arange(w, device=x.device)).view(n, 1, 1, w)
    image, channel = (
        torch.arange(n, device=x.device).view(n, 1, 1, 1),
        torch.arange(c, device=x.device).view(1, c, 1, 1),
    )
    return padded[image, channel, rows, columns]


def flip(x: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    chosen = (torch.rand(len(x)) < 0.5).to(x.device)
    return torch.where(chosen.view(-1, 1, 1, 1), x.flip(3), x)


def _each(one: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.stack([one(image) for image in x])


def augmenter(items: Sequence[Any]) -> Callable[[Tensor], Tensor] | None:
    """One function for the list of a recipe; draws from torch's default generator. None for an empty list."""
    steps: list[Callable[[Tensor], Tensor]] = []
    for item in items:
        name, parameters, method = augmentation(item)
        if method is None:
            steps.append(partial(shift, **parameters) if name == "shift" else flip)
        else:
            import zoo

            one = zoo.create(method.id, **parameters)
            steps.append(partial(_each, one))
    if not steps:
        return None

    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run
