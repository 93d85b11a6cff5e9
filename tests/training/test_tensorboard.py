"""The numbers of each epoch reach TensorBoard where it is installed; nothing else counts as that package."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType

import pytest

from zoo.errors import ZooError
from zoo.training.engine import train

SHOWN = ("loss", "lr", "validation", "test", "seconds")


class Writer:
    """Records what it is told."""

    made: list[Writer]

    def __init__(self, folder: str) -> None:
        self.folder, self.scalars, self.closed = folder, [], False
        Writer.made.append(self)

    def add_scalar(self, name, value, step) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch):
    """The writers that a run makes, by a stand-in for the package."""
    stand_in = ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    Writer.made = []
    return Writer.made


def test_every_figure_of_every_epoch(writers, small, tmp_path):
    result = train(small(epochs=3), tmp_path, device="cpu")
    (writer,) = writers
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.scalars == [(name, row[name], row["epoch"]) for row in result.history for name in SHOWN]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert writer.closed


def test_what_was_not_measured_is_left_out_and_no_folder_means_no_curves(writers, small, tmp_path):
    fields = small(data={"name": "digits", "validation": 0}, epochs=1)
    train(fields, device="cpu")
    assert writers == []
    train(fields, tmp_path, device="cpu")
    assert [name for name, _, _ in writers[0].scalars] == ["loss", "lr", "test", "seconds"]


def test_curves_are_closed_when_a_run_fails(writers, small, tmp_path):
    with pytest.raises(ZooError, match="the loss of epoch 1"):
        train(small(optimizer={"sgd": {"lr": 1e20}}), tmp_path, device="cpu")
    assert [w.closed for w in writers] == [True]


def test_a_folder_of_that_name_is_not_the_package(monkeypatch, small, tmp_path):
    """``tensorboard/`` in the working directory, which python takes for a package without code."""
    (tmp_path / "tensorboard").mkdir()
    spec = PathFinder.find_spec("tensorboard", [str(tmp_path)])
    assert spec is not None
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", importlib.util.module_from_spec(spec))
    train(small(epochs=1), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "report.json").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_package_itself(small, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(small(epochs=2), tmp_path, device="cpu")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(SHOWN)
    for name in SHOWN:
        found = [(e.step, e.value) for e in events.Scalars(name)]
        assert found == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in result.history]
