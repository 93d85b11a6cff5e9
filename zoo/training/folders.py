"""A folder with a folder of images for each class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo.pictures import damage
from zoo.training.recipe import Loaded
from zoo.training.samples import Files, Samples

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")


def read_folder(loaded: Loaded, seed: int) -> tuple[Samples, Samples, tuple[str, ...]]:
    """Training pool, test set and class names of ``data.path``.

    Raises:
        RecipeError: no such folder, no classes, no images, or splits that cannot be taken.
    """
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
    whole = _samples(paths, labels, size, part.channels)
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
        return whole, test, classes
    held = part.test or max(1, len(paths) // 5)
    if held >= len(paths):
        raise loaded.error(("data", "test"), f"{root} has {len(paths)} images, {held} were to be held out")
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
    except damage() as error:
        raise loaded.error(("data", "path"), f"{path}: not an image that can be read: {error}") from None


def _samples(paths: list[Path], labels: list[int], size: int, channels: int) -> Samples:
    return Samples(Files(paths, size, channels).held(), torch.tensor(labels), _numbers(paths), paths)


def _numbers(paths: list[Path]) -> Tensor | None:
    """The number that each file is named by (``cat/00417.png``); None unless every file has one of its own."""
    stems = [p.stem for p in paths]
    if not all(s.isascii() and s.isdigit() and len(s) < 10 for s in stems):
        return None
    numbers = [int(s) for s in stems]
    return torch.tensor(numbers) if len(set(numbers)) == len(numbers) else None
