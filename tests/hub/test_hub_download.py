"""``obtain`` and ``fetch`` against the loopback Hub: pins, cache, trust on first use, no network."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hub_files import FILE, REPO
from loopback import sha256

from zoo.errors import HubError, IntegrityError, PinError, WeightsError
from zoo.hub import pins, settings
from zoo.hub.download import fetch, obtain
from zoo.hub.source import Source

CACHE = "cache"
THEIRS = """
import sys
from huggingface_hub import hf_hub_download
print(hf_hub_download(sys.argv[1], sys.argv[2], revision=sys.argv[3]))
"""


# --------------------------------------------------------------------------- what works


def test_pinned_download_then_no_request(hub, pinned, tiny, tmp_path):
    path = fetch(pinned)
    assert path.read_bytes() == tiny
    assert path.is_relative_to(tmp_path / CACHE)
    asked = len(hub.log)
    assert fetch(pinned) == path
    assert len(hub.log) == asked
    assert all("authorization" not in headers for _, _, headers in hub.log)


def test_cache_is_shared_with_the_hubs_own_client(hub, pinned, client):
    ours = fetch(pinned)
    asked = len(hub.log)
    theirs = client(THEIRS, REPO, FILE, pinned.commit).stdout.strip()
    assert Path(theirs).samefile(ours)
    assert len(hub.log) == asked


def test_file_that_the_hubs_own_client_brought_is_used(hub, pinned, client):
    theirs = client(THEIRS, REPO, FILE, pinned.commit).stdout.strip()
    asked = len(hub.log)
    assert fetch(pinned).samefile(theirs)
    assert len(hub.log) == asked


def test_same_bytes_of_another_commit_are_not_downloaded_again(hub, pinned):
    fetch(pinned)
    later = hub.repos[REPO].commit({"README.md": b"changed"})
    hub.log.clear()
    path = fetch(replace(pinned, commit=later))
    assert later in str(path)
    assert hub.log == []


def test_file_in_a_folder(hub, tiny):
    commit = hub.repos[REPO].commit({"sub/dir/w.safetensors": tiny})
    source = Source("tiny", "t", REPO, "sub/dir/w.safetensors", commit, sha256(tiny), len(tiny))
    assert fetch(source).read_bytes() == tiny
    assert fetch(source, offline=True).read_bytes() == tiny


def test_progress_is_told(hub, pinned, tiny):
    seen = []
    fetch(pinned, progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1] == (len(tiny), len(tiny))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_tag_at_commit_drops_pins_of_other_bytes(pinned):
    other = "1" * 40
    assert pinned.at(pinned.commit) is pinned
    assert pinned.at(other).sha256 is None
    assert pinned.at(other).commit == other
    assert pinned.at("v1").branch == "v1"


# --------------------------------------------------------------------------- trust on first use


def test_unpinned_is_resolved_once_recorded_and_said(hub, unpinned, tiny, caplog):
    with caplog.at_level(logging.WARNING, "zoo.hub"):
        found = obtain(unpinned)
    assert found.source.commit == hub.repos[REPO].refs["main"]
    assert found.source.sha256 == sha256(tiny)
    assert len(caplog.records) == 1
    assert "trusted on first use" in caplog.text
    assert pins.recall(unpinned).sha256 == sha256(tiny)
    hub.log.clear()
    caplog.clear()
    obtain(unpinned)
    assert hub.log == []
    assert not caplog.records


def test_branch_that_moves_later_does_not_matter(hub, unpinned, tiny):
    first = obtain(unpinned)
    hub.repos[REPO].commit({FILE: tiny[:-4] + b"\0\0\0\0"})
    again = obtain(unpinned)
    assert again == first


def test_other_bytes_for_the_trusted_commit_are_refused(hub, unpinned, tiny, tmp_path):
    first = obtain(unpinned)
    os.unlink(os.path.realpath(first.path))
    os.unlink(first.path)
    hub.repos[REPO].commits[first.source.commit].files[FILE] = tiny[:-4] + b"\0\0\0\0"
    with pytest.raises(PinError, match="zoo forget tiny"):
        obtain(unpinned)
    assert pins.forget(unpinned)
    assert obtain(unpinned).source.sha256 != first.source.sha256
    assert not pins.forget(replace(unpinned, repo="zoo-tests/never"))


def test_first_trust_stands_when_two_differ(hub, unpinned):
    first = pins.Pin("1" * 40, "2" * 64, 3)
    assert pins.remember(unpinned, first) == first
    assert pins.remember(unpinned, replace(first, commit="4" * 40)) == first
    with pytest.raises(PinError, match="on first use"):
        pins.remember(unpinned, replace(first, sha256="5" * 64))
    assert pins.recall(unpinned) == first


def test_strict_pins_refuse_before_any_request(hub, unpinned, pinned, monkeypatch):
    with pytest.raises(PinError, match="strict pins"):
        obtain(unpinned, strict_pins=True)
    monkeypatch.setenv("ZOO_STRICT_PINS", "1")
    with pytest.raises(PinError, match="zoo lock"):
        obtain(unpinned)
    assert hub.log == []
    assert fetch(pinned)


def test_partly_pinned_entries_are_completed(hub, pinned):
    by_hash = obtain(replace(pinned, commit=None, size=None))
    assert by_hash.source == pinned
    by_commit = obtain(replace(pinned, sha256=None, size=None))
    assert by_commit.source == pinned


def test_unpinned_file_without_declared_sha256(hub, unpinned):
    hub.fault("headers", value={"X-Linked-Etag": None})
    with pytest.raises(PinError, match="declares no SHA-256"):
        obtain(unpinned)


def test_lock_file_that_is_not_ours_is_not_replaced(hub, unpinned):
    path = settings.pins_path()
    path.parent.mkdir(parents=True)
    path.write_text("{]")
    with pytest.raises(PinError, match="repair it"):
        obtain(unpinned)
    assert path.read_text() == "{]"


def test_processes_that_trust_at_once_keep_both_pins(hub, tiny, client, tmp_path):
    code = """
    import sys
    from zoo.hub.pins import Pin, remember
    from zoo.hub.source import Source
    for i in range(20):
        remember(Source("a", "t", f"org/{sys.argv[1]}{i}", "m.safetensors"), Pin("1" * 40, "2" * 64, 3))
    """
    running = [subprocess.Popen([sys.executable, "-c", _dedent(code), who]) for who in "ab"]
    assert [p.wait(60) for p in running] == [0, 0]
    assert len(pins.read()) == 40


def _dedent(code: str) -> str:
    import textwrap

    return textwrap.dedent(code)


# --------------------------------------------------------------------------- no network


def test_offline_and_cached_asks_nobody(hub, pinned, unpinned, monkeypatch):
    fetch(pinned)
    obtain(unpinned)
    hub.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(pinned)
    assert obtain(unpinned)
    assert hub.log == []


@pytest.mark.parametrize("how", ["environment", "argument", "refused", "silent"])
def test_not_cached_and_no_network_fails_fast_with_the_command(hub, pinned, unpinned, monkeypatch, how):
    listener = socket.socket()
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif how == "refused":
        listener.bind(("127.0.0.1", 0))  # bound, not listening
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
    elif how == "silent":
        from zoo.hub import transport

        monkeypatch.setattr(transport.socket, "create_connection", lambda *a, **k: time.sleep(5))
    for source in (pinned, unpinned):
        start = time.perf_counter()
        with pytest.raises(HubError, match=r"zoo download tiny --tag t1"):
            obtain(source, offline=True if how == "argument" else None)
        assert time.perf_counter() - start < 1.0
    listener.close()


def test_offline_takes_what_the_cache_last_knew(hub, unpinned, client):
    client("import sys; from huggingface_hub import hf_hub_download as d; d(*sys.argv[1:])", REPO, FILE)
    hub.log.clear()
    found = obtain(unpinned, offline=True)
    assert found.source.commit == hub.repos[REPO].refs["main"]
    assert hub.log == []
    assert pins.recall(unpinned).endpoint == "cache"


# --------------------------------------------------------------------------- endpoints and names


@pytest.mark.parametrize(
    ("value", "match"),
    [("https://mirror.example", "--endpoint"), ("http://mirror.example", "plain http"), ("ftp://x", "http"),
     ("https://user:pw@huggingface.co", "without user"), ("nonsense", "http")],
)  # fmt: skip
def test_endpoints_of_the_environment(hub, pinned, monkeypatch, value, match):
    monkeypatch.setenv("HF_ENDPOINT", value)
    with pytest.raises(HubError, match=match):
        fetch(pinned)


def test_endpoint_by_argument(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert settings.endpoint("https://other.example/") == "https://other.example"
    with pytest.raises(HubError, match="plain http"):
        settings.endpoint("http://other.example")
    monkeypatch.delenv("HF_ENDPOINT")
    assert settings.endpoint() == settings.DEFAULT_ENDPOINT


@pytest.mark.parametrize(
    "change",
    [{"repo": "a/../b"}, {"repo": "a--b/c"}, {"repo": "/abs/x"}, {"repo": "a"}, {"repo": "a/b/c"}, {"repo": "a/b\n"},
     {"file": "../x.safetensors"},
     {"file": "/x.safetensors"}, {"file": "C:\\x.safetensors"},
     {"file": "a//b.safetensors"},
     {"file": "model.bin"}, {"file": "x.safetensors\n"}, {"file": "a/./b.safetensors"}, {"file": "ä.safetensors"},
     {"commit": "main"}, {"commit": "A" * 40}, {"commit": "0" * 40 + "\n"}, {"sha256": "0" * 63},
     {"sha256": "0" * 64 + "\n"},
     {"size": 0}, {"size": -1}, {"size": True}, {"size": 2**60}, {"branch": "../main"}, {"branch": "-x"},
     {"branch": "a/b"}],
)  # fmt: skip
def test_names_and_pins_are_checked_before_anything_else(change):
    with pytest.raises(WeightsError, match="received"):
        Source(**({"name": "n", "tag": "t", "repo": REPO, "file": FILE} | change))


def test_bundled_file(tmp_path, tiny):
    (tmp_path / FILE).write_bytes(tiny)
    source = Source("n", "t", None, FILE, sha256=sha256(tiny), size=len(tiny), root=str(tmp_path))
    assert fetch(source) == tmp_path / FILE
    (tmp_path / FILE).write_bytes(tiny[:-1] + b"?")
    with pytest.raises(IntegrityError, match="Install the package again"):
        fetch(source)
    (tmp_path / FILE).unlink()
    with pytest.raises(WeightsError, match="missing"):
        fetch(source)
