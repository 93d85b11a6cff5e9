"""Every method keeps the contract of its kind, and the capability table says what was measured."""

from __future__ import annotations

import json

import pytest

from tests.contracts import CAPABILITIES, CASES, CHECKS, REQUIRED, capability, cases
from zoo.registry.lookup import registry


@pytest.mark.parametrize("name", cases())
def test_required(name: str) -> None:
    for check in REQUIRED:
        assert CHECKS[check](name), (
            f"{name} breaks the contract of kind {registry().raw.methods[name]['kind']}: {check}"
        )


@pytest.mark.parametrize("name", cases())
def test_capability_table_is_true(name: str, root) -> None:
    table = json.loads((root / "docs/data/capabilities.json").read_text())
    assert name in table["methods"], "run python -m tests.contracts --write"
    measured = {c: capability(name, c) for c in CAPABILITIES}
    assert measured == table["methods"][name], "run python -m tests.contracts --write and read what changed"


def test_table_has_no_others(root) -> None:
    table = json.loads((root / "docs/data/capabilities.json").read_text())
    assert sorted(table["methods"]) == sorted(cases())


def test_most_kinds_are_covered() -> None:
    """A contract that covers nothing would pass: every kind with a contract has methods."""
    covered = {registry().raw.methods[n]["kind"] for n in cases()}
    assert covered == set(CASES) & {m["kind"] for m in registry().raw.methods.values()}
