"""Image files that are damaged, or deeper than 8 bits: scaled as they should be, or an error that names the file."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.training.data import load_data
from zoo.training.recipe import RecipeError, load
from zoo.training.samples import Files


def huge_png() -> bytes:
    """A PNG of 60000 x 60000 pixels, by what its header says."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    rows = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + rows


BROKEN = {
    "huge.png": huge_png(),
    "words.ppm": b"P6\neight 8\n255\n" + bytes(192),
    "short.ppm": b"P6\n8 8\n255\n" + bytes(100),
    "depth.ppm": b"P6\n8 8\n0\n" + bytes(192),
    "text.ppm": b"P3\n2 2\n255\n1 2 3 4 5 6 7 8 9 10 11 twelve\n",
    "none.png": b"",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_damaged_files_are_named(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(RecipeError, match=rf"{name}: not an image that can be read: \S"):
        Files([path], 8, 3)[torch.tensor([0])]


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("name", ["huge.png", "words.ppm", "depth.ppm"])
def test_a_damaged_file_in_a_folder_is_named(name, size, small, tmp_path):
    """Whether the side is read from it, or all of it."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "x.png")
    (tmp_path / "cat" / f"a_{name}").write_bytes(BROKEN[name])
    part = {"name": "folder", "path": str(tmp_path), "test": 1} | ({"size": size} if size else {})
    with pytest.raises(RecipeError, match=rf"a_{name}: not an image that can be read"):
        load_data(load(small(data=part, batch=2, noise=None)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif")])
def test_sixteen_bits_are_scaled(mode, suffix, channels, tmp_path):
    """0 ... 65535 onto 0 ... 255, each to the nearest: 65535 is 255, and 255 is 1, not white."""
    values = np.array(
        [[0, 128, 129, 255], [256, 257, 385, 386], [1000, 32767, 32768, 32896], [32897, 65406, 65407, 65535]]
    )
    path = tmp_path / f"deep.{suffix}"
    stored = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    Image.frombytes(mode, (4, 4), stored).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    found = Files([path], 4, channels)[torch.tensor([0])][0]
    assert found.shape == (channels, 4, 4)
    for channel in found:
        assert channel.tolist() == np.rint(values / 257).astype(int).tolist()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range_are_refused(mode, tmp_path):
    path = tmp_path / "wide.tif"
    Image.new(mode, (8, 8), 300).save(path)
    with pytest.raises(RecipeError, match=rf"wide\.tif: .*mode {mode}\b"):
        Files([path], 8, 1)[torch.tensor([0])]


def test_eight_bits_stay_as_they_are(tmp_path):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert Files([tmp_path / "grey.png"], 8, 1)[torch.tensor([0])][0, 0].tolist() == values.tolist()
