"""The table of the norms is what the layers do: the committed file is measured again, and known facts hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoo.factory import norm_table


@pytest.fixture(scope="module")
def table(root: Path) -> dict[str, Any]:
    return json.loads((root / "docs" / "data" / "norm_table.json").read_text(encoding="utf-8"))


def test_covers_the_registry(table: dict[str, Any]) -> None:
    assert list(table["norms"]) == norm_table.norms()
    assert table["meaning"] == norm_table.MEANING


@pytest.mark.parametrize("name", norm_table.norms())
def test_measured_again(table: dict[str, Any], name: str) -> None:
    row = json.loads(json.dumps(norm_table.measure_one(name)))
    written = dict(table["norms"][name])
    cost, use = written.pop("cost"), written.pop("use")
    assert row == written
    assert cost is None or cost > 0
    assert use


def test_costs_are_the_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    rows = [
        {"name": "a, contiguous", "ratio": 1.236},
        {"name": "a, channels_last", "ratio": 3.0},
        {"name": "a, compiled", "ratio": 1.0},
    ]
    (tmp_path / "benchmarks" / "results" / "normalization.json").write_text(json.dumps({"rows": rows}))
    assert norm_table.costs(tmp_path) == {"batch_norm": 1.0, "a": 1.24}
    assert norm_table.costs(tmp_path / "elsewhere") == {"batch_norm": 1.0}


def test_textbook_rows(table: dict[str, Any]) -> None:
    """Facts that the literature states, against the file."""
    reads = {n: row["reads"] for n, row in table["norms"].items()}
    assert reads["batch_norm"] == ["positions", "samples"]
    assert reads["instance_norm"] == ["positions"]
    assert reads["group_norm"] == reads["layer_norm_all"] == ["positions", "channels"]
    assert reads["layer_norm"] == reads["positional_norm"] == ["channels"]
    assert table["norms"]["batch_renorm"]["previous_batches"]
    assert table["norms"]["moving_average_bn"]["previous_batches"]
    assert table["norms"]["batch_renorm"]["batch_dependent_gradient"]
    assert not table["norms"]["layer_norm_all"]["batch_dependent_gradient"]
    assert not table["norms"]["batch_norm"]["previous_batches"]
    assert not table["norms"]["group_norm"]["folds"]
    assert table["norms"]["batch_norm"]["folds"]


class Mix(nn.Module):
    """Reads exactly what it is told to."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(self.dims, keepdim=True)


@pytest.mark.parametrize(
    ("dims", "axes"),
    [((0,), ["samples"]), ((1,), ["channels"]), ((2, 3), ["positions"]), ((0, 1), ["channels", "samples"])],
)
def test_the_measurement_sees_axes(dims: tuple[int, ...], axes: list[str]) -> None:
    assert norm_table._reads(Mix(dims)) == axes
