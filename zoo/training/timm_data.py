"""Data sets by the names of ``timm.data.create_dataset``: the Hub, webdataset shards, TFDS, torchvision.

A run needs every sample by a fixed number: noise belongs to samples, splits are drawn once, algorithms keep state a
sample, a killed run goes on in the middle of an epoch. Sets with random access (``hfds/``, ``torch/``) have that number.
A stream (``wds/``, ``hfids/``, ``tfds/``) is read once from its start, unshuffled and by every process in whole; the place
in that order is the number, and the decoded images stay in memory.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from importlib.metadata import version
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from zoo.training import samples as memory
from zoo.training.recipe import Loaded, RecipeError
from zoo.training.samples import Lazy, Samples, fit

#: What each kind of name needs besides timm: module, least major version, and what pip installs. Before version 4,
#: ``datasets`` could run a script that a data set brings.
PACKAGES = {
    "hfds": ("datasets", 4, '"datasets>=4"'),
    "hfids": ("datasets", 4, '"datasets>=4"'),
    "wds": ("webdataset", 1, '"webdataset>=1"'),
    "tfds": ("tensorflow_datasets", 4, "tensorflow tensorflow-datasets"),
    "torch": ("torchvision", 0, "torchvision"),
}
#: torchvision's readers that come with a test set of their own.
WITH_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")


def read_timm(loaded: Loaded, seed: int) -> tuple[Samples, Samples, tuple[str, ...]]:
    """Training pool, test set and class names of ``data.path``, a name such as ``hfds/<owner>/<name>``.

    Raises:
        RecipeError: a package that is missing, a set that cannot be read, a label that is no class, a stream that does not
            fit in memory, no test set named.
    """
    part = loaded.recipe.data
    kind, _, name = str(part.path).partition("/")
    _installed(loaded, kind)
    test_split = part.test_split
    if test_split is None and part.test is None:
        if kind != "torch" or name not in WITH_TEST:
            raise loaded.error(
                ("data",),
                f"{part.path} needs a test set: test_split names a split of it, or test says how many samples of split "
                f"{part.split!r} are held out",
            )
        test_split = "test"
    source = Source(loaded, kind, name, part.split)
    pool = source.samples(part.size)
    classes = source.classes(int(pool.labels.max()) + 1)
    if part.per_class is not None:
        try:
            pool = pool.first_of_each(part.per_class, len(classes))
        except ValueError as error:
            raise loaded.error(("data", "per_class"), str(error)) from None
    if test_split is None:
        held = int(part.test or 0)
        if held >= len(pool):
            raise loaded.error(("data", "test"), f"{part.path} has {len(pool)} samples, {held} were to be held out")
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        return pool.subset(order[held:].sort().values), pool.subset(order[:held]), classes
    test = Source(loaded, kind, name, test_split).samples(int(pool.images.shape[2]))
    if int(test.labels.max()) >= len(classes):
        raise loaded.error(
            ("data", "test_split"),
            f"split {test_split!r} has labels up to {int(test.labels.max())}, {part.split!r} has {len(classes)} classes; "
            "num_classes states the number of a set that does not name its classes",
        )
    return pool, test, classes


def _installed(loaded: Loaded, kind: str) -> None:
    module, least, wanted = PACKAGES[kind]
    problem = None
    if importlib.util.find_spec(module) is None:
        problem = "which is missing"
    elif least and int((found := version(module.replace("_", "-"))).split(".")[0]) < least:
        problem = f"version {least} or later, and {found} is installed"
    if problem:
        raise loaded.error(
            ("data", "path"), f"{kind}/ is read with the package {module}, {problem}: pip install {wanted}"
        )


class Rows(Lazy):
    """Samples of a set with random access; a row is its number."""

    def __init__(self, count: int, size: int, channels: int, opened: Callable[[int], Any], title: str) -> None:
        super().__init__(range(count), size, channels)
        self.opened, self.title = opened, title

    def read(self, row: int, make: Callable[[Any], Tensor]) -> Tensor:
        from PIL import Image

        found = self.opened(row)
        if isinstance(found, Image.Image):
            return make(found)
        with found, Image.open(found) as image:
            return make(image)

    def name(self, row: int) -> str:
        return f"{self.title}, sample {row}"


class Source:
    """One split of a data set that timm opens."""

    def __init__(self, loaded: Loaded, kind: str, name: str, split: str) -> None:
        from timm.data import create_dataset

        part = loaded.recipe.data
        self.loaded, self.kind, self.title = loaded, kind, f"{part.path} {split}"
        root = part.root if part.root is not None or kind != "wds" else name
        if root is not None:
            root = str(Path(root).expanduser().absolute())
        if kind == "wds" and not Path(str(root)).is_dir():  # elsewhere webdataset would run commands: pipe:, curl
            raise loaded.error(
                ("data", "path"), f"wds/ takes a folder of shards on this machine, and {root} is not a folder"
            )
        mode = "L" if part.channels == 1 else "RGB"
        given: dict[str, Any] = {"input_img_mode": mode, "input_key": part.input_key, "target_key": part.target_key}
        if kind == "torch":
            given = {}
        self.dataset: Any = None
        try:
            self.dataset = create_dataset(
                str(part.path), root=root, split=split, download=part.download, is_training=False, **given
            )
        except (Exception, SystemExit) as error:  # whatever the package behind the name raises
            raise self._error(error) from error
        # timm's iterable readers deal their shards out over the processes of the run; here each one reads them all.
        reader: Any = getattr(self.dataset, "reader", None)
        if hasattr(reader, "dist_rank"):
            reader.dist_rank, reader.dist_num_replicas = 0, 1

    def samples(self, size: int | None) -> Samples:
        """All samples in the order of the source; ``size`` is the side of an image, by default that of the first."""
        try:
            return self._stream(size) if isinstance(self.dataset, IterableDataset) else self._rows(size)
        except RecipeError:
            raise
        except Exception as error:
            raise self._error(error) from error

    def classes(self, found: int) -> tuple[str, ...]:
        """Names in the order of the labels; numbers where the source has none."""
        names = getattr(getattr(self.dataset, "reader", self.dataset), "class_to_idx", None)
        own = self.loaded.recipe.data.num_classes
        if own is not None and own < found:
            raise self.loaded.error(
                ("data", "num_classes"), f"{self.title} has labels up to {found - 1}, received {own}"
            )
        if names:
            first: dict[int, str] = {}  # torchvision's ImageNet has several names for a class
            for name, label in names.items():
                first.setdefault(label, str(name))
            if own is not None and own != len(first):
                raise self.loaded.error(("data", "num_classes"), f"{self.title} names {len(first)} classes, not {own}")
            return tuple(first[label] for label in sorted(first))
        return tuple(str(i) for i in range(own or found))

    def _rows(self, size: int | None) -> Samples:
        reader = getattr(self.dataset, "reader", None)
        if reader is None:  # torchvision
            targets = getattr(self.dataset, "targets", None)
            labels = targets if targets is not None else (self.dataset[i][1] for i in range(len(self.dataset)))
            opened = lambda i: self.dataset[i][0]  # noqa: E731
        else:  # timm's own __getitem__ replaces an image that is damaged by another one with another label
            labels, opened = reader.iter_targets(), lambda i: reader[i][0]
        count = len(self.dataset)
        if not count:
            raise self.loaded.error(("data", "path"), f"{self.title} has no samples")
        rows = Rows(count, size or 1, self.loaded.recipe.data.channels, opened, self.title)
        if size is None:
            side = rows.read(0, lambda image: torch.tensor(min(image.size)))
            rows = Rows(count, int(side), rows.channels, opened, self.title)
        return Samples(rows.held(), self._labels(labels), torch.arange(count))

    def _stream(self, size: int | None) -> Samples:
        channels, limit = self.loaded.recipe.data.channels, memory.IN_MEMORY
        images: list[Tensor] = []
        labels = []
        for image, label in self.dataset:
            size = size or min(image.size)
            if (len(images) + 1) * channels * size**2 > limit:
                raise self.loaded.error(
                    ("data", "path"),
                    f"{self.title}: a stream has no index, so its decoded images are kept in memory to give each sample a fixed "
                    f"number, and more than {len(images)} of {channels} x {size} x {size} do not fit into {limit} bytes; take "
                    "hfds/ or a folder (random access, decoded by batch), or a smaller data.size",
                )
            images.append(fit(image, size, channels))
            labels.append(label)
        stated = getattr(self.dataset.reader, "num_samples", 0)
        if not images or (stated and stated != len(images)):
            raise self.loaded.error(
                ("data", "path"), f"{self.title}: {len(images)} samples could be read, {stated or 'some'} were expected"
            )
        return Samples(torch.stack(images), self._labels(labels), torch.arange(len(images)))

    def _labels(self, labels: Iterable[Any]) -> Tensor:
        values = []
        for v in labels:
            if isinstance(v, bool) or not hasattr(v, "__index__") or v < 0:
                raise self.loaded.error(
                    ("data", "target_key"), f"{self.title}: a label is a class number from 0, received {v!r}"
                )
            values.append(index(v))
        return torch.tensor(values)

    def _error(self, error: BaseException) -> RecipeError:
        said = (str(error).splitlines() or [""])[0]
        columns = getattr(getattr(getattr(self.dataset, "reader", None), "dataset", None), "features", None)
        keys = "" if columns is None else f"; input_key and target_key name two of its columns: {', '.join(columns)}"
        return self.loaded.error(("data", "path"), f"{self.title} cannot be read: {type(error).__name__}: {said}{keys}")
