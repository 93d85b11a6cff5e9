from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy import make
from zoo.registry.load import load
from zoo.registry.lookup import Registry, use


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of a small valid registry; the cache goes to a folder of its own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return make(tmp_path / "root")


@pytest.fixture
def in_use(toy: Path):
    """The toy registry as the one in use."""
    registry = Registry(load(toy), toy)
    use(registry)
    yield registry
    use(None)
