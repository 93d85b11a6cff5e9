"""A generated and built site of what zoo ships, made once for all tests of this folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from zoo.registry.lookup import Registry, registry
from zoo.site.build import build
from zoo.site.context import Site
from zoo.site.generate import generate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site() -> Site:
    return Site(registry(), ROOT / "docs", ROOT / "benchmarks")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sources") / "docs"
    generate(out)
    return out


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, offline: bool) -> Path:
    """Built by whichever worker comes first; the others wait for it."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / f"zoo-{name}"
    base.mkdir(exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = base / "done"
        if not done.exists():
            done.write_text(str(build(strict=True, out=base / "docs", offline=offline, quiet=True)))
        assert done.read_text() == "0", "the strict build failed; its output is above"
    return base


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``mkdocs build --strict`` writes it, links checked; one that exists already with ``ZOO_BUILT_SITE``."""
    if ready := os.environ.get("ZOO_BUILT_SITE"):
        return Path(ready)
    return _once(tmp_path_factory, "site", offline=False) / "site"


@pytest.fixture(scope="session")
def built_offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _once(tmp_path_factory, "offline", offline=True) / "site-offline"


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Registry]:
    """A root with one paper whose page the test writes itself."""
    root = tmp_path / "root"
    (root / "catalog" / "normalization").mkdir(parents=True)
    (root / "registry.yaml").write_text(
        "methods:\n  toy_norm: {paper: toy_norm, kind: norm, target: 'torch.nn:BatchNorm2d'}\n", encoding="utf-8"
    )
    return root, registry()
