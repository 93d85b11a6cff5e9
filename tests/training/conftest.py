"""Small runs on digits that the tests of this folder share."""

from __future__ import annotations

import copy
from typing import Any

import pytest

SMALL: dict[str, Any] = {
    "model": {"name": "zoo.models.mlp:mlp", "args": {"hidden": [16]}},
    "data": {"name": "digits", "test": 300, "validation": 0.1},
    "noise": {"name": "symmetric_exclusive", "rate": 0.4},
    "optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9}},
    "epochs": 2,
    "batch": 256,
}


@pytest.fixture
def small():
    """``small(epochs=3, method=...)``: the fields of a run that takes a fraction of a second."""

    def make(**changes: Any) -> dict[str, Any]:
        return {**copy.deepcopy(SMALL), **changes}

    return make
