"""CIFAR-N label files: read without code, put to the right samples, refused where the order is not known."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.training.cifar_n import load_cifar_n
from zoo.training.data import load_data
from zoo.training.engine import train
from zoo.training.recipe import RecipeError, load

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNT = 60
TRUTH = np.random.default_rng(0).permutation(np.arange(COUNT) % 10)
WORSE = np.where(np.arange(COUNT) % 5 < 2, (TRUTH + 1 + np.arange(COUNT) % 9) % 10, TRUTH)
LABELS = {"clean_label": TRUTH, "worse_label": WORSE}


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small data set in torchvision's own CIFAR-10 layout, with its checksums; pixel 0 holds the sample's number."""
    from torchvision.datasets import CIFAR10

    root = tmp_path / "data"
    base = root / CIFAR10.base_folder
    base.mkdir(parents=True)

    def write(name: str, content) -> list[str]:
        blob = pickle.dumps(content)
        (base / name).write_bytes(blob)
        return [name, hashlib.md5(blob).hexdigest()]

    def batch(numbers):
        pixels = np.zeros((len(numbers), 3072), np.uint8)
        pixels[:, 0] = numbers
        return {"data": pixels, "labels": [int(TRUTH[i]) for i in numbers]}

    rows = np.array_split(np.arange(COUNT), 5)
    monkeypatch.setattr(CIFAR10, "train_list", [write(f"data_batch_{i + 1}", batch(r)) for i, r in enumerate(rows)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch(np.arange(20)))])
    name, digest = write("batches.meta", {"label_names": list(CLASSES)})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return root


@pytest.fixture
def numbered(tmp_path):
    """The same images as ``<class>/<index>.png``."""
    root = tmp_path / "folder"
    for i, label in enumerate(TRUTH):
        (root / "train" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(root / "train" / CLASSES[label] / f"{i:05d}.png")
        if i < 20:
            (root / "test" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i, 0, 0)).save(root / "test" / CLASSES[label] / f"{i}.png")
    return root


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "CIFAR-10_human.pt"
    torch.save(LABELS, path)
    return path


def fields(small, labels, key="worse_label", **data):
    data = {"validation": 0.2, "clean_per_class": 1, **data}
    return small(data=data, noise={"name": "cifar_n", "path": str(labels), "key": key}, batch=8)


def check(data) -> None:
    """Every training and validation image carries the label of its number in the file; the rest stays clean."""
    for part, expected in ((data.train, WORSE), (data.validation, WORSE), (data.meta, TRUTH)):
        numbers = part.images[torch.arange(len(part))][:, 0, 0, 0].long()
        assert torch.equal(part.labels, torch.as_tensor(expected)[numbers])
        assert torch.equal(part.origin, numbers)
    assert 0.3 < float(data.wrong.double().mean()) < 0.5
    assert data.classes == CLASSES


def test_torchvision_order(small, cifar, labels):
    recipe = fields(small, labels, path="torch/cifar10", root=str(cifar))
    data = load_data(load(recipe))
    check(data)
    assert len(data.test) == 20
    held = load_data(load(fields(small, labels, path="torch/cifar10", root=str(cifar), test=10)))
    check(held)
    assert train(recipe, device="cpu").report["noise"]["wrong_labels"] == int(data.wrong.sum())


def test_numbered_folder(small, numbered, labels):
    check(load_data(load(fields(small, labels, path=str(numbered)))))


@pytest.mark.parametrize("name", ["plain.npz", "fields.npy"])
def test_formats_without_pickle(small, numbered, tmp_path, name):
    path = tmp_path / name
    if name == "plain.npz":
        np.savez(path, **LABELS)
    else:
        rows = np.zeros(COUNT, [("clean_label", np.int64), ("worse_label", np.int64)])
        rows["clean_label"], rows["worse_label"] = TRUTH, WORSE
        np.save(path, rows)
    check(load_data(load(fields(small, path, path=str(numbered)))))


def test_reads_arrays_and_no_code(tmp_path):
    path = tmp_path / "n.pt"
    torch.save({"worse_label": np.array([3, 1, 2]), "half": np.array([0.5])}, path)
    assert load_cifar_n(path, "worse_label").tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="no labels 'other'; there are: worse_label, half"):
        load_cifar_n(path, "other")
    with pytest.raises(ValueError, match="no list of classes"):
        load_cifar_n(path, "half")

    class Evil:
        def __reduce__(self):
            return (tmp_path / "executed").write_text, ("",)

    torch.save({"worse_label": Evil()}, path)
    with pytest.raises(Exception, match=r"(?i)weights"):
        load_cifar_n(path, "worse_label")
    for kind in ("npy", "npz"):  # the published .npy is a pickled dict in the order of another library
        path = tmp_path / f"n.{kind}"
        (np.save if kind == "npy" else np.savez)(path, np.array({"worse_label": Evil()}, dtype=object))
        with pytest.raises(ValueError, match=r"only pickle code could read.*take the \.pt"):
            load_cifar_n(path, "worse_label")
    np.save(tmp_path / "bare.npy", np.arange(3))
    with pytest.raises(ValueError, match="a ndarray without names"):
        load_cifar_n(tmp_path / "bare.npy", "worse_label")
    assert not (tmp_path / "executed").exists()


def changed(**arrays):
    return {**LABELS, **arrays}


SWAPPED = TRUTH.copy()
SWAPPED[[7, 30]] = (SWAPPED[[7, 30]] + 1) % 10


@pytest.mark.parametrize(("content", "key", "says"), [
    (changed(clean_label=SWAPPED), "worse_label", r"another order: its clean_label differs from the label of \d of"),
    (changed(clean_label=TRUTH[::-1].copy()), "worse_label", "in another order"),
    (LABELS, "random_label1", "no labels 'random_label1'; there are: clean_label, worse_label"),
    ({"worse_label": WORSE}, "worse_label", "no labels 'clean_label'"),
    (changed(coarse_label=WORSE), "coarse_label", "no labels 'clean_coarse_label'"),
    (changed(worse_label=WORSE[:50]), "worse_label", "60 clean labels and 50 'worse_label'"),
    ({k: v[:50] for k, v in LABELS.items()}, "worse_label", "50 clean labels .* the data reach number 59"),
    (changed(worse_label=WORSE + 1), "worse_label", "beyond the 10 classes"),
])  # fmt: skip
def test_files_of_other_data(small, numbered, tmp_path, content, key, says):
    path = tmp_path / "n.pt"
    torch.save(content, path)
    with pytest.raises(RecipeError, match=says):
        load_data(load(fields(small, path, key, path=str(numbered), validation=0, clean_per_class=0)))


def test_order_that_is_not_known(small, numbered, labels, tmp_path):
    allowed = r"torch/cifar10 or torch/cifar100, or a folder whose training files are named .*<class>/<index>\.png"
    with pytest.raises(RecipeError, match=f"order of torchvision's reader, and digits .*{allowed}"):
        load_data(load(fields(small, labels, name="digits")))
    first, second = sorted((numbered / "train" / "cat").iterdir())[:2]
    first.rename(first.with_name("x1.png"))
    with pytest.raises(RecipeError, match=allowed):
        load_data(load(fields(small, labels, path=str(numbered))))
    first.with_name("x1.png").rename(second.with_name(second.stem.lstrip("0") + ".png"))
    with pytest.raises(RecipeError, match="each number once"):
        load_data(load(fields(small, labels, path=str(numbered))))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_data(load(fields(small, tmp_path / "nowhere.pt", path="torch/cifar10", root=str(tmp_path))))


def test_unreadable_file(small, numbered, tmp_path):
    for path, content in ((tmp_path / "nowhere.pt", None), (tmp_path / "broken.pt", b"x")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RecipeError, match=rf"noise.path: .*{path.name}"):
            load_data(load(fields(small, path, path=str(numbered))))


@pytest.mark.parametrize(("noise", "says"), [
    ({"name": "cifar_n", "path": "x"}, "takes path and key"),
    ({"name": "cifar_n", "path": "x", "key": "y", "rate": 0.2}, "nothing else"),
    ({"name": "pair"}, "pair takes a rate"),
    ({"name": "pair", "rate": 0.2, "key": "y"}, "path and key go with cifar_n"),
])  # fmt: skip
def test_fields(small, noise, says):
    with pytest.raises(RecipeError, match=says):
        load(small(noise=noise))


def test_no_matrix(small):
    noise = {"name": "cifar_n", "path": "x", "key": "y"}
    with pytest.raises(RecipeError, match="matrix of the recipe's noise, and cifar_n has none"):
        load(small(noise=noise, method={"forward_correction": {"T": "noise"}}))
