"""Fixtures shared by all tests: threads, seeds, and the ``parity`` recorder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-evidence", action="store_true", help="record parity errors beside the catalog pages")


def pytest_configure(config: pytest.Config) -> None:
    # Two workers on two cores: more threads would only fight each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seed() -> None:
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def parity(request: pytest.FixtureRequest):
    """``parity(method, error, tolerance, oracle=...)``: assert, and with ``--write-evidence`` record, a parity error."""

    def record(method: str, error: float, tolerance: float, *, oracle: str) -> None:
        error = float(error.detach() if hasattr(error, "detach") else error)
        if request.config.getoption("--write-evidence") and error <= tolerance:
            from zoo.claims.run import write_parity

            write_parity(
                method, oracle=oracle, test=request.node.nodeid.split("[")[0], error=error, tolerance=tolerance
            )
        assert error <= tolerance, f"{method}: error {error:.3g} against {oracle} exceeds {tolerance:.3g}"

    return record


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def read_json():
    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"))
