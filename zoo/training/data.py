"""Data of a recipe: splits that never overlap, noise on the training labels only, batches by index.

Order of the steps, each with its own seed: test set (clean), clean meta set, long tail, noise, validation set (noisy).
The index that algorithms see is the position in the training set that is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.training.names import augmentation
from zoo.training.noise import clean_split, long_tail, noisy_labels
from zoo.training.recipe import Loaded, RecipeError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
#: Decoded images are kept in memory up to this many bytes; beyond it every batch is decoded anew.
IN_MEMORY = 4 * 2**30
NORMALISE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.5,), (0.5,)), "mnist5k": ((0.1307,), (0.3081,)),
}  # fmt: skip


class Files:
    """Image files that look like a ``(N, C, S, S)`` uint8 tensor: indexing decodes, resizes the short side, crops."""

    def __init__(self, paths: Sequence[Path], size: int, channels: int) -> None:
        self.paths, self.size, self.channels = list(paths), size, channels
        self.shape = (len(paths), channels, size, size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        chosen = [self.paths[i] for i in torch.arange(len(self))[index.cpu()].tolist()]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding releases the interpreter lock
            return torch.stack(list(pool.map(self._decode, chosen))) if chosen else torch.empty(0, *self.shape[1:])

    def subset(self, index: Tensor) -> Files:
        return Files([self.paths[i] for i in index.tolist()], self.size, self.channels)

    def _decode(self, path: Path) -> Tensor:
        import numpy as np
        from PIL import Image

        try:
            with Image.open(path) as opened:
                image: Image.Image = opened.convert("L" if self.channels == 1 else "RGB")
                short = min(image.size)
                if short != self.size:
                    wide, high = (max(self.size, round(side * self.size / short)) for side in image.size)
                    image = image.resize((wide, high), Image.Resampling.BILINEAR)
                left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
                image = image.crop((left, top, left + self.size, top + self.size))
                pixels = torch.from_numpy(np.array(image))
        except OSError as error:
            raise RecipeError([f"{path}: not an image that can be read: {error}"]) from None
        return pixels.view(self.size, self.size, self.channels).permute(2, 0, 1).contiguous()


@dataclass
class Samples:
    """Images ``(N, C, H, W)``, uint8 or float in [0, 1], and their labels ``(N,)``."""

    images: Tensor | Files
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> Samples:
        images = self.images.subset(index) if isinstance(self.images, Files) else self.images[index]
        return Samples(images, self.labels[index])

    def to(self, device: torch.device) -> Samples:
        images = self.images if isinstance(self.images, Files) else self.images.to(device)
        return Samples(images, self.labels.to(device))


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
        if noise is not None:
            noise_seed = loaded.recipe.seed if noise.seed is None else noise.seed
            features = None
            if noise.name == "instance_dependent":
                features = pool.images[torch.arange(len(pool))].float()
            given = noisy_labels(truth, noise.name, noise.rate, k, noise_seed, features, noise.exact)
            pool = Samples(pool.images, given)
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
        return _read_folder(loaded, seed)
    from zoo.claims import data

    size, total = (part.test or 500, 1797) if part.name == "digits" else (part.test or 1000, 5000)
    if size >= total:
        raise loaded.error(("data", "test"), f"{part.name} has {total} samples, {size} were to be held out")
    split = getattr(data, part.name)(test=size, seed=seed)
    classes = tuple(str(i) for i in range(10))
    return Samples(split.x_train, split.y_train), Samples(split.x_test, split.y_test), classes


def _read_folder(loaded: Loaded, seed: int) -> tuple[Samples, Samples, tuple[str, ...]]:
    part = loaded.recipe.data
    root = Path(str(part.path)).expanduser()
    if not root.is_dir():
        raise loaded.error(("data", "path"), f"{root} is not a folder")
    train_root = root / "train" if (root / "train").is_dir() else root
    test_root = next((root / n for n in ("test", "val", "validation") if (root / n).is_dir()), None)
    split = train_root is not root and test_root is not None
    if train_root is not root and not split:
        raise loaded.error(("data", "path"), f"{root} has train/ but no test/, val/ or validation/ beside it")
    classes = tuple(sorted(p.name for p in train_root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(classes) < 2:
        raise loaded.error(("data", "path"), f"{train_root} has {len(classes)} class folders, at least 2 are needed")
    paths, labels = _listing(loaded, train_root, classes, part.per_class)
    size = part.size or _side_of(loaded, paths[0])
    if split:
        assert test_root is not None
        if part.test is not None and part.test % len(classes):
            raise loaded.error(
                ("data", "test"),
                f"{root} has its own {test_root.name}/: as many of each of the {len(classes)} classes are taken, and "
                f"{part.test} is no multiple of that",
            )
        share = None if part.test is None else part.test // len(classes)
        strange = {p.name for p in test_root.iterdir() if p.is_dir()} - set(classes)
        if strange:
            raise loaded.error(
                ("data", "path"), f"{test_root} has classes that {train_root} lacks: {', '.join(sorted(strange))}"
            )
        test = _samples(*_listing(loaded, test_root, classes, share, empty=True), size, part.channels)
        return _samples(paths, labels, size, part.channels), test, classes
    held = part.test or max(1, len(paths) // 5)
    if held >= len(paths):
        raise loaded.error(("data", "test"), f"{root} has {len(paths)} images, {held} were to be held out")
    whole = _samples(paths, labels, size, part.channels)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    return whole.subset(order[held:]), whole.subset(order[:held]), classes


def _listing(
    loaded: Loaded, root: Path, classes: tuple[str, ...], first: int | None = None, empty: bool = False
) -> tuple[list[Path], list[int]]:
    paths, labels = [], []
    for label, name in enumerate(classes):
        folder = root / name
        own = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        if not own and not empty:
            raise loaded.error(("data", "path"), f"{folder} holds no image ({', '.join(SUFFIXES)})")
        if first is not None and len(own) < first:
            raise loaded.error(("data",), f"{folder} holds {len(own)} images, {first} were asked for")
        paths += own[:first]
        labels += [label] * len(own[:first])
    if not paths:
        raise loaded.error(("data", "path"), f"{root} holds no image")
    return paths, labels


def _side_of(loaded: Loaded, path: Path) -> int:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size)
    except OSError as error:
        raise loaded.error(("data", "path"), f"{path}: not an image that can be read: {error}") from None


def _samples(paths: list[Path], labels: list[int], size: int, channels: int) -> Samples:
    files = Files(paths, size, channels)
    if len(paths) * channels * size * size > IN_MEMORY:
        return Samples(files, torch.tensor(labels))
    return Samples(files[torch.arange(len(files))], torch.tensor(labels))


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
