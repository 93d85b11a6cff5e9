"""A loopback Hub, an empty cache and an empty user lock for every test; clients in fresh processes on request."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_files import FILE, REPO, safetensors
from loopback import LoopbackHub, sha256

from zoo.hub.source import Source


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """Two tensors, 300 kB: enough for several chunks of a slow server."""
    weight = struct.pack("<75000f", *range(75000))
    return safetensors({"weight": ("F32", [250, 300], weight), "bias": ("F32", [3], struct.pack("<3f", 1, 2, 3))})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> Iterator[LoopbackHub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE", "ZOO_STRICT_PINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_PINS", str(tmp_path / "zoo" / "pins.json"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # read from the environment when first imported
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repo(REPO, {FILE: tiny})
        yield server


@pytest.fixture
def pinned(hub: LoopbackHub, tiny: bytes) -> Source:
    commit = hub.repos[REPO].refs["main"]
    return Source("tiny", "t1", REPO, FILE, commit, sha256(tiny), len(tiny), "apache-2.0")


@pytest.fixture
def unpinned() -> Source:
    return Source("tiny", "t1", REPO, FILE, licence="apache-2.0")


@pytest.fixture
def client() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python text in a fresh interpreter with the present environment."""

    def run(code: str, *argv: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *argv],
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run
