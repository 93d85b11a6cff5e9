"""``suspects.csv``: which labels to look at first, each with the file or the number that it stands at."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from PIL import Image
from two_processes import fields as two_fields
from two_processes import two

from zoo.training.data import load_data
from zoo.training.engine import train
from zoo.training.recipe import load

HEADER = ["rank", "trust", "label", "sample"]


def table(folder) -> list[dict[str, str]]:
    with (folder / "suspects.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        found = list(reader)
        assert reader.fieldnames == HEADER
    return found


@pytest.fixture
def pictures(tmp_path):
    """``pictures(split)``: dark cats and bright dogs, 30 of each, and three dark files among the dogs."""

    def make(split: bool):
        root = tmp_path / "data"
        for part, count in (("train", 30), ("test", 3)) if split else (("", 30),):
            for name, grey in (("cat", 30), ("dög, big", 220)):
                place = root / part / name / "deep"
                place.mkdir(parents=True)
                for i in range(count):
                    Image.new("L", (8, 8), grey + i).save(place / f"{name[0]} {i}.png")
        for i in range(3):
            Image.new("L", (8, 8), 40 + i).save(root / ("train" if split else "") / "dög, big" / f"wrong{i}.png")
        return root

    return make


def recipe(small, root, **changes):
    part = {"name": "folder", "path": str(root), "channels": 1, "validation": 0.1} | changes.pop("data", {})
    return small(data=part, noise=None, batch=8, epochs=8, **changes)


@pytest.mark.parametrize("method", ["cross_entropy", "elr", "co_teaching"])
def test_wrong_files_of_a_folder_come_first(method, small, pictures, tmp_path):
    root = pictures(True)
    result = train(recipe(small, root, method=method, data={"validation": 0}), tmp_path / "run", device="cpu")
    assert result.report["suspects"] is None  # nobody knows the truth, so there is no precision
    assert result.report["suspects_file"] == "suspects.csv"
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == result.report
    found = table(tmp_path / "run")
    assert {row["sample"] for row in found[:3]} == {f"train/dög, big/wrong{i}.png" for i in range(3)}
    assert [row["rank"] for row in found] == [str(i + 1) for i in range(63)]
    trust = [float(row["trust"]) for row in found]
    assert trust == sorted(trust)
    for row in found:
        assert (root / row["sample"]).is_file()
        assert row["sample"].split("/")[1] == row["label"]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("changes", [{}, {"per_class": 20, "test": 7, "clean_per_class": 2, "long_tail": 2}])
def test_files_stay_with_their_images(changes, in_memory, small, pictures, monkeypatch):
    """Through held-out sets, the first of each class, long tail and noise."""
    if not in_memory:
        monkeypatch.setattr("zoo.training.samples.IN_MEMORY", 10)
    given = recipe(small, pictures(False), data=changes)
    data = load_data(load({**given, "noise": {"name": "symmetric_exclusive", "rate": 0.3}}))
    parts = [p for p in (data.train, data.test, data.validation, data.meta) if p is not None]
    assert len(parts) == (4 if "clean_per_class" in changes else 3)
    seen = []
    for part in parts:
        moved = part.to(torch.device("cpu")).subset(torch.arange(len(part)).flip(0))
        for samples in (part, moved):
            assert len(samples.files) == len(samples)
            for path, image in zip(samples.files, samples.images[torch.arange(len(samples))], strict=True):
                with Image.open(path) as stored:
                    assert stored.getpixel((3, 3)) == int(image[0, 3, 3])
        seen += part.files
    assert len(set(seen)) == len(seen)


def test_numbers_of_the_source_where_there_are_no_files(small, tmp_path):
    """A digit by its number in scikit-learn's set; the label is the one that noise put there."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    result = train(small(method="elr"), tmp_path, device="cpu")
    chosen = result.algorithm.suspects().tolist()
    assert [int(row["sample"]) for row in table(tmp_path)] == result.data.train.origin[chosen].tolist()
    for row, i in zip(table(tmp_path), chosen, strict=True):
        image = torch.tensor(digits.images[int(row["sample"])]).float() / 16
        assert torch.equal(image, result.data.train.images[i, 0])
        assert int(row["label"]) == int(result.data.train.labels[i])
        assert float(row["trust"]) == pytest.approx(float(result.algorithm.trust[i]), rel=1e-5)
    held = result.data.test
    assert torch.equal(torch.tensor(digits.target)[held.origin], held.labels)


def test_files_change_no_number(small, pictures):
    """The fingerprint, and what is trained, are those of the same images without their names."""
    given = recipe(small, pictures(False))
    data = load_data(load(given))
    seen = data.fingerprint()
    data.train.files = None
    assert data.fingerprint() == seen


class Stop(Exception):
    pass


def test_a_run_that_was_stopped_writes_the_same_file(small, pictures, tmp_path):
    given = recipe(small, pictures(False), method="elr", checkpoint_steps=2)

    def stop(step):
        if step == 9:
            raise Stop

    train(given, tmp_path / "a", device="cpu")
    with pytest.raises(Stop):
        train(given, tmp_path / "b", device="cpu", on_step=stop)
    assert not (tmp_path / "b" / "suspects.csv").exists()
    train(given, tmp_path / "b", device="cpu")
    whole = (tmp_path / "a" / "suspects.csv").read_bytes()
    assert (tmp_path / "b" / "suspects.csv").read_bytes() == whole
    train(given, tmp_path / "b", device="cpu")  # finished: nothing is trained, the file is written again
    assert (tmp_path / "b" / "suspects.csv").read_bytes() == whole


def test_a_method_that_ranks_nothing_writes_nothing(small, tmp_path):
    result = train(small(method="mlnt", data={"name": "digits", "clean_per_class": 5}), tmp_path, device="cpu")
    result.algorithm.trust = None
    from zoo.training.report import suspects_csv

    assert suspects_csv(result.data, result.algorithm) is None
    assert train(small(), device="cpu").report["suspects_file"] is None  # no folder, no file


def work(rank: int, folder: str) -> None:
    import zoo.training.engine as engine

    given = two_fields(model={"name": "zoo.models.mlp:mlp", "args": {"hidden": [8]}}, method="elr", epochs=1)
    written = []
    write = engine.checkpoint.write_bytes
    engine.checkpoint.write_bytes = lambda path, blob: (written.append(path.name), write(path, blob))[1]
    report = train(given, folder, device="cpu").report
    assert report["suspects_file"] == "suspects.csv"
    assert written.count("suspects.csv") == (rank == 0)


def test_of_several_processes_the_first_writes(tmp_path):
    two(work, str(tmp_path))
    assert len(table(tmp_path)) == 1024


def test_the_command_says_where_the_file_is(small, tmp_path):
    import typer
    import yaml
    from typer.testing import CliRunner

    from zoo.cli.train import add_to

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small(epochs=1)), encoding="utf-8")
    app = typer.Typer()
    add_to(app)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "run"), "--device", "cpu", "-q"])
    assert done.exit_code == 0
    assert done.output.split()[-1].endswith("suspects.csv")
    assert len(table(tmp_path / "run")) == 1280
