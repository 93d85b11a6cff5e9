"""Pictures deeper than 8 bits and damaged files, as ``zoo predict`` and training read them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zoo.errors import WeightsError
from zoo.hub.predict import open_image
from zoo.pictures import eight_bits


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 128, 129, 1000], [32896, 65406, 65407, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    wanted = np.round(values / 257).astype(int)
    for channels in (1, 3):
        found = np.asarray(open_image(tmp_path / "deep.png", channels)).reshape(2, 4, -1)
        assert (found == wanted[..., None]).all()


def test_eight_bits_are_left_alone():
    picture = Image.new("RGB", (2, 2), (1, 2, 3))
    assert eight_bits(picture) is picture


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((2, 2), dtype=dtype)).save(tmp_path / "x.tiff")
    with pytest.raises(WeightsError, match="is not a picture that can be read"):
        open_image(tmp_path / "x.tiff")


def test_damaged_and_oversized_files_are_named(tmp_path, monkeypatch):
    (tmp_path / "broken.ppm").write_bytes(b"P6\n2 x\n255\n")
    with pytest.raises(WeightsError, match=r"broken\.ppm is not a picture that can be read"):
        open_image(tmp_path / "broken.ppm")
    Image.new("L", (9, 9)).save(tmp_path / "large.png")
    monkeypatch.setattr("zoo.hub.predict.MAX_PIXELS", 80)
    with pytest.raises(WeightsError, match="9 x 9 pixels, more than 80"):
        open_image(tmp_path / "large.png")
