"""Committed results have the agreed form, and their ratios follow from their times."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.fixture
def common(root):
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        import common

        yield common
    finally:
        sys.path.remove(str(root / "benchmarks"))


def test_results_are_sound(root, common) -> None:
    files = sorted((root / "benchmarks" / "results").glob("*.json"))
    assert files
    for file in files:
        assert common.problems(json.loads(file.read_text())) == [], file.name


def test_every_benchmark_has_results(root) -> None:
    programs = {p.stem.removeprefix("bench_") for p in (root / "benchmarks").glob("bench_*.py")}
    results = {p.stem for p in (root / "benchmarks" / "results").glob("*.json")}
    assert programs <= results


def test_problems_are_found(common) -> None:
    good = common.row("a", "", 1.0, 2.0, 0.4, 3, "b")
    assert good["met"] is False
    environment = dict.fromkeys(("python", "platform", "torch", "timm", "device", "threads"), "x")
    result = {"benchmark": "x", "date": "2026-01-01", "environment": environment, "rows": [good]}
    assert common.problems(result) == []
    assert common.problems({**result, "rows": [{**good, "met": True}]})
    assert common.problems({**result, "rows": [{**good, "ratio": 0.3}]})
    assert common.problems({**result, "rows": [{**good, "unit": "furlongs"}]})
    assert common.problems({**result, "environment": {}})
    assert common.problems([])


def test_interleave_takes_medians(common) -> None:
    calls: list[str] = []
    found = common.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warmup=1)
    assert calls == ["a", "b"] * 4
    assert set(found) == {"a", "b"}


def test_peak_counts_what_a_function_holds_at_once(common) -> None:
    import torch

    x = torch.ones(250_000)  # 1 MB
    assert common.peak_megabytes(lambda: x + 1) == pytest.approx(1, rel=0.01)
    assert common.peak_megabytes(lambda: ((x + 1), (x + 2))) == pytest.approx(2, rel=0.01)
    assert common.peak_megabytes(lambda: (x + 1).add_(1).sum()) == pytest.approx(1, rel=0.01)
