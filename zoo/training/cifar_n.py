"""Labels that people gave to CIFAR images (Wei et al., ICLR 2022, arXiv 2110.12088), put to the samples they belong to.

A label file holds one entry an image in the order of torchvision's reader, and no file names. It is therefore taken
only where each sample's place in that order is known, and only if the clean labels that the file repeats agree with
those of the data on every sample.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.training.recipe import Loaded
from zoo.training.samples import Samples

#: Names whose order is torchvision's.
ORDERED = ("torch/cifar10", "torch/cifar100")


def load_cifar_n(path: str | os.PathLike[str], key: str) -> Tensor:
    """Labels of a CIFAR-N file (``aggre_label``, ``worse_label``, ``random_label1``, ``noisy_label``, ...), ``(N,)`` int64.

    A ``.pt`` file holds NumPy arrays; they are read with ``weights_only`` and an allow-list of NumPy's array constructors,
    so that no other code of the file can run. An ``.npz`` file, or an ``.npy`` file with one named field a label set, is
    read without pickle. The ``.pt`` order is torchvision's.

    Raises:
        ValueError: no such key, or a file that only pickle code could read.
    """
    data = _arrays(Path(path))
    if not isinstance(data, dict) or key not in data:
        there = ", ".join(map(str, data)) if isinstance(data, dict) else f"a {type(data).__name__} without names"
        raise ValueError(f"{path}: no labels {key!r}; there are: {there}")
    values = torch.as_tensor(data[key])
    if values.ndim != 1 or (values.is_floating_point() and not bool((values == values.round()).all())):
        raise ValueError(f"{path}: {key!r} is no list of classes but {tuple(values.shape)} of {values.dtype}")
    return values.to(torch.int64)


def _arrays(path: Path) -> Any:
    import numpy as np

    if path.suffix in (".npy", ".npz"):
        try:
            found = np.load(path, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                with found:
                    return {name: found[name] for name in found.files}
        except ValueError as error:
            raise ValueError(
                f"{path}: holds objects that only pickle code could read ({error}); take the .pt file"
            ) from None
        return {name: np.ascontiguousarray(found[name]) for name in found.dtype.names} if found.dtype.names else found
    multiarray = getattr(np, "_core", None) or np.core  # type: ignore[attr-defined]
    names = ("int8", "int16", "int32", "int64", "uint8", "float32", "float64")
    allowed: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(n)) for n in names}]
    make = multiarray.multiarray._reconstruct
    # Files of NumPy 1 and 2 name the same constructor by different modules.
    spelled = [(make, f"numpy.{m}.multiarray._reconstruct") for m in ("core", "_core")]
    with torch.serialization.safe_globals([*allowed, make, *spelled]):
        return torch.load(path, weights_only=True)


def given_labels(loaded: Loaded, pool: Samples, classes: int) -> Tensor:
    """The labels of ``noise: {name: cifar_n, path: ..., key: ...}`` for every sample of ``pool``, ``(N,)``.

    Raises:
        RecipeError: samples whose place in torchvision's order is not known, a file that cannot be read, clean labels that
            differ, labels out of range.
    """
    noise, part = loaded.recipe.noise, loaded.recipe.data
    assert noise is not None
    assert noise.path is not None
    assert noise.key is not None
    if pool.origin is None or not (part.name == "folder" or part.path in ORDERED):
        raise loaded.error(
            ("noise", "name"),
            f"cifar_n goes by the order of torchvision's reader, and {part.path or part.name} does not tell it; take "
            f"data.path: {' or '.join(ORDERED)}, or a folder whose training files are named by their place in that "
            "order, each number once: <class>/<index>.png",
        )
    clean_key = "clean_coarse_label" if "coarse" in noise.key else "clean_label"
    path = Path(noise.path).expanduser()
    try:
        given, clean = load_cifar_n(path, noise.key), load_cifar_n(path, clean_key)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise loaded.error(("noise", "path"), said if str(path) in said else f"{path} cannot be read: {said}") from None
    count = len(clean)
    if len(given) != count or int(pool.origin.max()) >= count:
        raise loaded.error(
            ("noise", "path"),
            f"{path} has {count} clean labels and {len(given)} {noise.key!r}; the data reach number {int(pool.origin.max())}",
        )
    given, clean = given[pool.origin], clean[pool.origin]
    wrong = (clean != pool.labels).nonzero().squeeze(1)
    if len(wrong):
        at = int(wrong[0])
        raise loaded.error(
            ("noise", "path"),
            f"{path} is not for these data, or in another order: its {clean_key} differs from the label of {len(wrong)} of "
            f"{len(pool)} samples, first at number {int(pool.origin[at])} ({int(clean[at])}, data {int(pool.labels[at])})",
        )
    if int(given.min()) < 0 or int(given.max()) >= classes:
        raise loaded.error(("noise", "key"), f"{noise.key!r} has labels beyond the {classes} classes of the data")
    return given
