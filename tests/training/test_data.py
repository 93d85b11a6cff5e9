"""Splits never overlap, noise reaches training and validation labels only, folders are read as they stand."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from zoo.training.data import flip, load_data, shift
from zoo.training.recipe import RecipeError, load
from zoo.training.samples import IN_MEMORY


def rows(samples) -> set[bytes]:
    return {image.numpy().tobytes() for image in samples.images}


def test_splits_do_not_overlap(small):
    data = load_data(
        load(
            small(
                data={"name": "digits", "test": 300, "validation": 0.2, "clean_per_class": 10},
                method="learning_to_reweight",
            )
        )
    )
    assert (len(data.test), len(data.meta), len(data.validation)) == (300, 100, 279)
    assert len(data.train) == 1797 - 300 - 100 - 279
    parts = [rows(p) for p in (data.train, data.test, data.meta, data.validation)]
    assert len(set().union(*parts)) == sum(map(len, parts))
    assert torch.bincount(data.meta.labels).tolist() == [10] * 10


def test_noise_is_seeded_and_spares_test_and_meta(small):
    fields = small(data={"name": "digits", "test": 300, "clean_per_class": 5}, method="learning_to_reweight")
    clean = load_data(load({k: v for k, v in fields.items() if k != "noise"}))
    noisy, again = load_data(load(fields)), load_data(load(fields))
    other = load_data(load({**fields, "noise": {"name": "symmetric_exclusive", "rate": 0.4, "seed": 5}}))
    assert torch.equal(noisy.truth, clean.truth)
    assert torch.equal(noisy.train.labels, again.train.labels)
    assert not torch.equal(noisy.train.labels, other.train.labels)
    assert 0.35 < noisy.wrong.double().mean() < 0.45
    for part in ("test", "meta"):
        assert torch.equal(getattr(noisy, part).labels, getattr(clean, part).labels)
    assert (noisy.validation.labels != clean.validation.labels).double().mean() > 0.25


def test_long_tail_comes_before_noise(small):
    fields = small(data={"name": "digits", "test": 300, "validation": 0, "long_tail": 20})
    data = load_data(load(fields))
    counts = torch.bincount(data.truth)
    assert counts[0] / counts[9] == pytest.approx(20, rel=0.2)
    assert data.validation is None


@pytest.fixture
def folder(tmp_path):
    """Three classes of grey squares, the label in the brightness."""

    def make(split: bool):
        for part, count in (("train", 6), ("test", 2)) if split else (("", 6),):
            for label, name in enumerate(("cat", "dog", "eel")):
                place = tmp_path / part / name
                place.mkdir(parents=True)
                for i in range(count):
                    Image.new("RGB", (12, 10), (40 * label, i, 7)).save(place / f"{i}.png")
        return tmp_path

    return make


def test_folder(small, folder):
    fields = small(data={"name": "folder", "path": str(folder(True)), "validation": 0, "size": 8}, batch=4)
    data = load_data(load({k: v for k, v in fields.items() if k != "noise"}))
    assert data.classes == ("cat", "dog", "eel")
    assert (len(data.train), len(data.test), data.shape) == (18, 6, (3, 8, 8))
    assert torch.equal(data.train.images[:, 0, 0, 0].long(), 40 * data.train.labels)
    assert data.take(data.train, torch.tensor([17]))[0, 0, 0, 0] == pytest.approx((80 / 255 - 0.5) / 0.5)


def test_first_files_of_every_class(small, folder):
    part = {"name": "folder", "path": str(folder(True)), "validation": 0, "size": 8, "per_class": 2, "test": 3}
    data = load_data(load({k: v for k, v in small(data=part, batch=3).items() if k != "noise"}))
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.images[:, 1, 0, 0].tolist() == [0, 1] * 3
    assert data.test.labels.tolist() == [0, 1, 2]


def test_large_folders_are_decoded_by_batch(small, folder, monkeypatch):
    fields = small(
        data={"name": "folder", "path": str(folder(False)), "validation": 0.2, "test": 3, "size": 8}, batch=4
    )
    assert IN_MEMORY > 10**9
    memory = load_data(load(fields))
    monkeypatch.setattr("zoo.training.samples.IN_MEMORY", 10)
    lazy = load_data(load(fields))
    index = torch.tensor([3, 0, 5])
    assert not isinstance(lazy.train.images, torch.Tensor)
    assert torch.equal(lazy.take(lazy.train, index), memory.take(memory.train, index))
    assert torch.equal(lazy.train.labels, memory.train.labels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "/nowhere"}, "/nowhere is not a folder"),
        ({"mean": [0.5], "std": [0.5]}, "3 values each"),
        ({"clean_per_class": 50}, "were to be held out"),
        ({"test": 4}, "has its own test/"),
        ({"test": 9}, "holds 2 images, 3 were asked for"),
        ({"per_class": 7}, "holds 6 images, 7 were asked for"),
    ],
)
def test_bad_folder(small, folder, change, says):
    path = folder(True)
    fields = small(data={"name": "folder", "path": str(path), "size": 8, **change}, batch=4)
    with pytest.raises(RecipeError, match=says):
        load_data(load(fields))


def test_folder_without_classes_broken_image_and_wrong_noise(small, folder, tmp_path):
    path = folder(True)
    fields = small(data={"name": "folder", "path": str(path), "size": 8}, batch=4)
    with pytest.raises(RecipeError, match="asym_cifar10 is defined for 10 classes, received 3"):
        load_data(load({**fields, "noise": {"name": "asym_cifar10", "rate": 0.4}}))
    (path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(RecipeError, match=r"0\.png: not an image"):
        load_data(load(fields))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RecipeError, match="0 class folders"):
        load_data(load({**fields, "data": {"name": "folder", "path": str(empty)}}))


def test_shift_moves_and_flip_mirrors():
    x = torch.zeros(64, 1, 5, 5)
    x[:, :, 2, 2] = 1
    moved = shift(x, 1)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(64))
    places = {tuple(p) for p in moved.nonzero()[:, 2:].tolist()}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    x[:, :, 2, 2], x[:, :, 2, 1] = 0, 1
    mirrored = flip(x)
    assert {tuple(p) for p in mirrored.nonzero()[:, 2:].tolist()} == {(2, 1), (2, 3)}
