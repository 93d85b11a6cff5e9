"""Tables of studies: joint and single training of the bAbI tasks stand side by side where both cover the same tasks."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.site import studies
from zoo.site.context import Site

ROW = {"memn2n": 1.25, "majority": 80.0, "passed": True}
SINGLE = {
    "what": "bAbI", "setting": "single", "command": "c", "fields": {}, "environment": {},
    "rows": [{"task": t, "name": f"n{t}", **ROW} for t in (1, 2)], "mean": {"memn2n": 1.25, "majority": 80.0},
}  # fmt: skip
JOINT = {"setting": "joint", "mean": 7.5, "rows": [{"task": 1, "memn2n": 4.5}, {"task": 2, "memn2n": 10.5}]}


def table(site: Site, monkeypatch: pytest.MonkeyPatch, **data: dict[str, Any]) -> list[list[str]]:
    monkeypatch.setattr(site, "data", lambda name: data.get(name, {}))
    lines = [line for line in studies.babi(site).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_joint_training_is_a_column_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    head, *rows = table(site, monkeypatch, babi_table=SINGLE, babi_joint=JOINT)
    assert head[:3] == ["Task", "memn2n", "memn2n, all tasks together"]
    assert [row[2] for row in rows] == ["4.5", "10.5", "7.5"]
    assert all(len(row) == len(head) for row in rows)


def test_other_tasks_are_not_put_beside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ({}, {**JOINT, "rows": JOINT["rows"][:1]}):
        head, *rows = table(site, monkeypatch, babi_table=SINGLE, babi_joint=other)
        assert "memn2n, all tasks together" not in head
        assert rows[-1][0] == "**mean**"
