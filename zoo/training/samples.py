"""Images and their labels, in memory or decoded a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from zoo.pictures import damage, eight_bits
from zoo.training.recipe import RecipeError

#: Decoded images are kept in memory up to this many bytes; beyond it every batch is decoded anew.
IN_MEMORY = 4 * 2**30


def fit(image: Any, size: int, channels: int) -> Tensor:
    """A PIL image as uint8 ``(channels, size, size)``: the short side resized to ``size``, the middle cut out.

    Grey values of 16 bits (mode ``I;16``) are divided by 257 and rounded, so that 65535 becomes 255.

    Raises:
        ValueError: pixels of 32 bits (modes ``I`` and ``F``), whose range no file states.
    """
    import numpy as np
    from PIL import Image

    image = eight_bits(image).convert("L" if channels == 1 else "RGB")
    short = min(image.size)
    if short != size:
        wide, high = (max(size, round(side * size / short)) for side in image.size)
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + size, top + size))))
    return pixels.view(size, size, channels).permute(2, 0, 1).contiguous()


class Lazy:
    """Images that look like a ``(N, C, S, S)`` uint8 tensor: indexing decodes them. A subclass writes :meth:`read`.

    Args:
        rows: what stands for each image.
        size: S, the side.
        channels: C, 1 or 3.
    """

    def __init__(self, rows: Sequence[Any], size: int, channels: int) -> None:
        self.rows, self.size, self.channels = list(rows), size, channels
        self.shape = (len(self.rows), channels, size, size)

    def read(self, row: Any, make: Callable[[Any], Tensor]) -> Tensor:
        """``make`` of the opened PIL image."""
        raise NotImplementedError

    def name(self, row: Any) -> str:
        """What an error calls the image."""
        return str(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        chosen = [self.rows[i] for i in torch.arange(len(self))[index.cpu()].tolist()]
        found = torch.empty(len(chosen), *self.shape[1:], dtype=torch.uint8)
        workers = min(8, os.cpu_count() or 1)
        share = max(1, min(64, len(chosen) // (4 * workers)))  # a task an image costs as much as a small image

        def part(first: int) -> None:
            for i in range(first, min(first + share, len(chosen))):
                found[i] = self._decode(chosen[i])

        with ThreadPoolExecutor(workers) as pool:  # decoding releases the interpreter lock
            list(pool.map(part, range(0, len(chosen), share)))
        return found

    def subset(self, index: Tensor) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.rows = [self.rows[i] for i in index.tolist()]
        other.shape = (len(other.rows), *self.shape[1:])
        return other

    def held(self) -> Tensor | Self:
        """All images as one tensor where they fit in memory, else what was there."""
        return self[torch.arange(len(self))] if len(self) * self.channels * self.size**2 <= IN_MEMORY else self

    def _decode(self, row: Any) -> Tensor:
        try:
            return self.read(row, lambda image: fit(image, self.size, self.channels))
        except damage() as error:
            raise RecipeError([f"{self.name(row)}: not an image that can be read: {error}"]) from None


class Files(Lazy):
    """Image files; a row is a path."""

    def read(self, row: Path, make: Callable[[Any], Tensor]) -> Tensor:
        from PIL import Image

        with Image.open(row) as image:
            return make(image)


@dataclass
class Samples:
    """Images ``(N, C, H, W)``, uint8 or float in [0, 1], their labels ``(N,)`` and, where they were read from a source
    with a fixed order, the position of each there ``(N,)``; of a folder the file of each.
    """

    images: Tensor | Lazy
    labels: Tensor
    origin: Tensor | None = None
    files: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> Samples:
        images = self.images.subset(index) if isinstance(self.images, Lazy) else self.images[index]
        origin = None if self.origin is None else self.origin[index.cpu()]
        files = None if self.files is None else [self.files[i] for i in index.tolist()]
        return Samples(images, self.labels[index], origin, files)

    def to(self, device: torch.device) -> Samples:
        images = self.images if isinstance(self.images, Lazy) else self.images.to(device)
        return Samples(images, self.labels.to(device), self.origin, self.files)

    def first_of_each(self, count: int, classes: int) -> Samples:
        """The first ``count`` samples of every class, in their order.

        Raises:
            ValueError: a class has fewer.
        """
        kept = []
        for c in range(classes):
            mine = (self.labels == c).nonzero().squeeze(1)
            if len(mine) < count:
                raise ValueError(f"class {c} has {len(mine)} samples, {count} were asked for")
            kept.append(mine[:count])
        return self.subset(torch.cat(kept).sort().values)
