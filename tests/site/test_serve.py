"""``zoo docs serve``: a change of the sources is on the page shortly after."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from zoo.registry.lookup import registry, use
from zoo.site import build as site_build
from zoo.site import generate as site_generate


def test_regenerates_on_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher alone; mkdocs, which watches the generated files, is replaced by a wait."""
    root = tmp_path / "checkout"
    page = root / "catalog" / "normalization" / "toy_norm.md"
    page.parent.mkdir(parents=True)
    page.write_text(
        "---\ntitle: Toy\nauthors: [A. Nonymous]\nvenue: None\nyear: 2020\nurl: https://example.org/toy\nsummary: Before.\n---\nText.\n\n## Method\n\n"
        "x\n\n## When to use it\n\nx\n\n## Where re-implementations go wrong\n\n- x\n"
    )
    (root / "registry.yaml").write_text(
        "methods:\n  toy_norm: {paper: toy_norm, kind: norm, target: 'torch.nn:BatchNorm2d'}\n"
    )
    (root / "docs").mkdir()
    for name in ("mkdocs.yml", "mkdocs.offline.yml"):
        shutil.copy(Path(site_build.__file__).parents[2] / name, root)
    monkeypatch.setattr(site_build, "checkout_root", lambda: root)
    from zoo.registry.load import load
    from zoo.registry.lookup import Registry

    monkeypatch.setattr(site_generate, "registry", lambda: Registry(load(root, use_cache=False), root))
    finished = threading.Event()
    monkeypatch.setattr(site_build, "_mkdocs", lambda arguments: int(not finished.wait(20)))
    before = registry()
    out = tmp_path / "out" / "docs"
    server = threading.Thread(target=site_build.serve, kwargs={"out": out, "interval": 0.05})
    server.start()
    try:
        shown = out / "normalization" / "toy_norm.md"
        _until(lambda: shown.exists() and "Before." in shown.read_text())
        time.sleep(0.2)
        page.write_text(page.read_text().replace("Before.", "half-saved: {"))  # no reason to stop
        time.sleep(0.3)
        page.write_text(page.read_text().replace("half-saved: {", "After."))
        _until(lambda: "After." in shown.read_text())
    finally:
        finished.set()
        server.join()
        use(before)


def _until(condition) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_listens_on_this_machine_only() -> None:
    import inspect

    address = inspect.signature(site_build.serve).parameters["address"].default
    assert socket.gethostbyname(address.rsplit(":", 1)[0]).startswith("127.")
