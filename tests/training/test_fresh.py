"""``--fresh`` leaves nothing of an earlier run, touches nothing else, and does neither before the recipe is sound."""

from __future__ import annotations

import json

import pytest

from zoo.errors import ZooError
from zoo.training.engine import train
from zoo.training.recipe import RecipeError

#: What a user, or another program, may keep beside a run.
OTHERS = (
    "notes.txt", "report.json.bak", "my.safetensors", "last.safetensors.txt", "checkpoint.pt.old", ".hidden",
    ".report.json.mine.tmp", "tensorboard/notes.txt", "tensorboard/other/events.out.tfevents.1.host.1.0",
    "checkpoint-7/notes.txt", "sub/report.json", "sub/last.safetensors", "sub/checkpoint.pt",
)  # fmt: skip


def contents(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def earlier(small, tmp_path):
    """The folder of a finished run, with files of someone else in it."""
    train(small(method="elr"), tmp_path, device="cpu")
    (tmp_path / "tensorboard").mkdir(exist_ok=True)
    for path in (
        "tensorboard/events.out.tfevents.1795286000.host.17.0", ".last.safetensors.4711.tmp",
        "checkpoint-0000000004/rest.pt", ".checkpoint-0000000008.tmp/rest.pt", *OTHERS,
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def test_a_fresh_run_that_fails_leaves_no_result_of_the_one_before(earlier, small):
    written = {"report.json", "suspects.csv", "best.safetensors", "last.safetensors", "checkpoint.pt", "metrics.jsonl"}
    assert written <= contents(earlier).keys()
    with pytest.raises(ZooError, match="the loss of epoch 1"):
        train(small(optimizer={"sgd": {"lr": 1e20}}), earlier, device="cpu", fresh=True)
    left = contents(earlier)
    assert left.pop("metrics.jsonl") == b""
    left = {k: v for k, v in left.items() if "tfevents" not in k or k in OTHERS}  # those of the new run
    assert left == {path: path.encode() for path in OTHERS}
    assert not (earlier / "tensorboard/events.out.tfevents.1795286000.host.17.0").exists()


def test_fresh_leaves_what_a_first_run_would(small, tmp_path):
    """Without validation there is no best epoch: the one of the earlier run must not stay."""
    plain = small(data={"name": "digits", "test": 300, "validation": 0}, epochs=1)
    train(small(), tmp_path / "a", device="cpu")
    train(plain, tmp_path / "a", device="cpu", fresh=True)
    train(plain, tmp_path / "b", device="cpu")
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    names = {k for k in b if "tfevents" not in k}
    assert {k for k in a if "tfevents" not in k} == names
    assert "best.safetensors" not in names
    assert a["last.safetensors"] == b["last.safetensors"]
    assert json.loads(a["report.json"])["best"] is None


@pytest.mark.parametrize("changes", [
    {"batch": 5000}, {"model": "resnet9000"}, {"optimizer": {"sgd": {"lr": -1}}}, {"schedule": "multi_step"},
    {"method": {"elr": {"beta": 2.0}}}, {"data": {"name": "folder", "path": "/nowhere"}},
])  # fmt: skip
def test_a_recipe_that_is_refused_removes_nothing(changes, earlier, small):
    before = contents(earlier)
    with pytest.raises(RecipeError):
        train(small(**changes), earlier, device="cpu", fresh=True)
    assert contents(earlier) == before


def test_a_folder_under_the_name_of_a_result_stays(small, tmp_path):
    (tmp_path / "suspects.csv").mkdir()
    (tmp_path / "suspects.csv" / "mine").write_text("kept")
    with pytest.raises(ZooError, match="the loss of epoch 1"):
        train(small(optimizer={"sgd": {"lr": 1e20}}), tmp_path, device="cpu", fresh=True)
    assert (tmp_path / "suspects.csv" / "mine").read_text() == "kept"
