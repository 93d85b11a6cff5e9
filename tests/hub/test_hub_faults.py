"""Every fault of a Hub, a network or a disk ends in its declared error and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hub_files import FILE, REPO, files_under, safetensors
from loopback import sha256

from zoo.errors import HubError, IntegrityError, PinError, WeightsError
from zoo.hub import pins
from zoo.hub.download import fetch
from zoo.hub.source import Source

CACHE = "cache"
THEIRS = """
import sys
from huggingface_hub import hf_hub_download
print(hf_hub_download(sys.argv[1], sys.argv[2], revision=sys.argv[3]))
"""


def nothing_left(tmp_path: Path) -> bool:
    return not any(".lock" not in f for f in files_under(tmp_path / CACHE)) if (tmp_path / CACHE).exists() else True


# --------------------------------------------------------------------------- refusals of the Hub


@pytest.mark.parametrize(
    ("fault", "code", "match"),
    [("401", "", "401"), ("403", "GatedRepo", "accept its licence"), ("404", "RepoNotFound", "does not exist"),
     ("404", "RevisionNotFound", "revision"), ("404", "EntryNotFound", "file model.safetensors"),
     ("429", "", "too many requests"), ("500", "", "answered 500")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_refusals_are_clear_and_leave_nothing(hub, pinned, tmp_path, fault, code, match, method):
    hub.fault(fault, method, value=code)
    with pytest.raises(HubError, match=match) as caught:
        fetch(pinned)
    assert REPO in str(caught.value)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("change", [{"repo": "zoo-tests/none"}, {"commit": "0" * 40}, {"file": "other.safetensors"}])
def test_real_404s(hub, pinned, change, tmp_path):
    with pytest.raises(HubError, match="does not exist"):
        fetch(replace(pinned, **change))
    assert nothing_left(tmp_path)


def test_a_pickle_beside_a_failing_safetensors_is_never_asked_for(hub, pinned, tmp_path):
    hub.repos[REPO].commit({"pytorch_model.bin": b"pickle"})
    hub.fault("500", "HEAD", "safetensors")
    with pytest.raises(HubError, match="500"):
        fetch(pinned)
    assert not hub.requests(path=r"\.bin")
    assert nothing_left(tmp_path)


def test_token_goes_only_to_a_declared_gated_repo_and_nowhere_else(hub, pinned, tiny, monkeypatch, tmp_path):
    from loopback import LoopbackHub

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(pinned)
    assert not any("authorization" in h for _, _, h in hub.log)
    commit = hub.repo("zoo-tests/gated", {FILE: tiny[:-4] + b"abcd"}, gated=True).refs["main"]
    data = hub.repos["zoo-tests/gated"].at("main").files[FILE]
    gated = Source("g", "t", "zoo-tests/gated", FILE, commit, sha256(data), len(data))
    with pytest.raises(HubError, match="gated"):
        fetch(gated)
    with LoopbackHub() as elsewhere:
        elsewhere.repo("zoo-tests/gated", {FILE: data})
        target = f"{elsewhere.url}/zoo-tests/gated/resolve/main/{FILE}?signature=s3cret"
        hub.fault("redirect", path="zoo-tests/gated", value=target)
        assert fetch(replace(gated, gated=True)).read_bytes() == data
        assert elsewhere.log
        assert all("authorization" not in h for _, _, h in elsewhere.log)
    assert any("authorization" in h for _, _, h in hub.log)


def test_errors_hold_neither_token_nor_signature(hub, pinned, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.fault("redirect", value=f"{hub.url}/nowhere?signature=s3cret")
    with pytest.raises(HubError) as caught:
        fetch(replace(pinned, gated=True))
    assert "hf_secret" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://example.org/file", "file:///etc/passwd", "ftp://example.org/x"])
def test_redirect_to_an_unsafe_place(hub, pinned, target, tmp_path):
    hub.fault("redirect", value=target)
    with pytest.raises(HubError, match="refused"):
        fetch(pinned)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("kind", ["location", "redirect"])
def test_redirect_loop_ends(hub, pinned, kind):
    hub.fault(kind, value=f"{hub.url}/{REPO}/resolve/{pinned.commit}/{FILE}")
    with pytest.raises(HubError):
        fetch(pinned)
    assert len(hub.log) < 40


# --------------------------------------------------------------------------- broken transfers


def test_cut_once_resumes(hub, pinned, tiny):
    hub.fault("cut", "GET", times=1)
    assert fetch(pinned).read_bytes() == tiny
    assert len(hub.requests("GET")) == 2


def test_cut_once_where_ranges_are_ignored(hub, pinned, tiny):
    hub.fault("cut", "GET", times=1)
    hub.fault("norange", "GET")
    assert fetch(pinned).read_bytes() == tiny


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [("short", IntegrityError, "were declared"), ("long", IntegrityError, "more than"),
     ("corrupt", IntegrityError, "thrown away")],
)  # fmt: skip
def test_wrong_bodies(hub, pinned, tmp_path, kind, error, match):
    hub.fault(kind, "GET")
    with pytest.raises(error, match=match):
        fetch(pinned)
    assert nothing_left(tmp_path)
    hub.faults.clear()
    assert fetch(pinned)


def test_always_cut_without_progress_gives_up(hub, pinned, tmp_path):
    hub.fault("drop", "GET")
    start = time.perf_counter()
    with pytest.raises(HubError, match="broke off at 0 of"):
        fetch(pinned)
    assert time.perf_counter() - start < 5
    assert nothing_left(tmp_path)


def test_cut_every_time_ends_although_each_try_brings_some(hub, pinned, monkeypatch, tmp_path):
    from zoo.hub import transport

    monkeypatch.setattr(transport.time, "sleep", lambda _: None)
    hub.fault("cut", "GET")  # half of what is left, then the line is dead
    with pytest.raises(HubError, match=r"broke off at \d+ of \d+ bytes"):
        fetch(pinned)
    assert len(hub.requests("GET")) < 40
    assert nothing_left(tmp_path)


def test_stuck_server_times_out(hub, pinned, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")
    hub.fault("hang", value=1.0)
    start = time.perf_counter()
    with pytest.raises(HubError, match="Timeout"):
        fetch(pinned)
    assert time.perf_counter() - start < 3
    assert nothing_left(tmp_path)


def test_slow_server_is_waited_for_and_progress_shows(hub, pinned, tiny, monkeypatch):
    hub.fault("slow", "GET", value=0.05)
    seen = []
    assert fetch(pinned, progress=lambda done, total: seen.append(done)).read_bytes() == tiny
    assert len(seen) > 2


# --------------------------------------------------------------------------- untrusted headers


BAD = [
    "../../../../evil",
    "/etc/evil",
    "..",
    "",
    "A" * 40,
    "0" * 39,
    "0" * 41,
    "0" * 40 + "\t",
    "zz" * 20,
    "../" + "0" * 61,
]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("header", ["X-Repo-Commit", "X-Linked-Etag"])
@pytest.mark.parametrize("entry", ["pinned", "unpinned"])
def test_malformed_identities_write_nothing(hub, request, tmp_path, header, value, entry):
    if header == "X-Linked-Etag" and not value:
        value = '""'
    hub.fault("headers", value={header: value})
    before = set(tmp_path.rglob("*"))
    source = request.getfixturevalue(entry)
    try:
        fetch(source)
    except (HubError, IntegrityError, PinError):
        assert set(tmp_path.rglob("*")) == before
    else:  # httpx strips white space around a value, which then is sound
        assert value.strip() != value


@pytest.mark.parametrize("value", ["-1", "1e3", "0x10", "", "99999999999999999999", "0", str(2**40), "abc", " "])
def test_malformed_sizes(hub, unpinned, tmp_path, value):
    hub.fault("headers", value={"X-Linked-Size": value})
    with pytest.raises(HubError, match="size"):
        fetch(unpinned)
    assert nothing_left(tmp_path)


def test_contradictory_declarations(hub, pinned, unpinned, tiny, tmp_path):
    hub.fault("headers", "HEAD", value={"X-Repo-Commit": "0" * 40}, times=1)
    with pytest.raises(HubError, match="X-Repo-Commit"):
        fetch(pinned)
    hub.fault("headers", "HEAD", value={"X-Linked-Etag": "0" * 64}, times=1)
    with pytest.raises(IntegrityError, match="Nothing was downloaded"):
        fetch(pinned)
    hub.fault("headers", "HEAD", value={"X-Linked-Size": str(len(tiny) + 1)}, times=1)
    with pytest.raises(IntegrityError, match="Nothing was downloaded"):
        fetch(pinned)
    assert not hub.requests("GET")
    hub.fault("headers", "HEAD", value={"X-Linked-Etag": "0" * 64})  # the HEAD lies, the bytes do not
    with pytest.raises(IntegrityError, match="thrown away"):
        fetch(unpinned)
    assert pins.recall(unpinned) is None
    assert nothing_left(tmp_path)


def test_wrong_sha256_in_the_registry(hub, pinned, tmp_path):
    wrong = replace(pinned, sha256="0" * 64)
    with pytest.raises(IntegrityError, match="registry pins sha256 0000"):
        fetch(wrong)
    assert nothing_left(tmp_path)


# --------------------------------------------------------------------------- the disk


def test_planted_link_is_refused(hub, pinned, tmp_path, tiny):
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(tiny)
    pointer = tmp_path / CACHE / f"models--{REPO.replace('/', '--')}" / "snapshots" / pinned.commit / FILE
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to(outside)
    with pytest.raises(IntegrityError, match="out of the cache"):
        fetch(pinned)


def test_planted_folder_is_refused(hub, pinned, tmp_path):
    (tmp_path / CACHE).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / CACHE / f"models--{REPO.replace('/', '--')}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="out of the cache"):
        fetch(pinned)
    assert not files_under(tmp_path / "elsewhere")


def test_planted_part_link_is_not_followed(hub, pinned, tmp_path, tiny):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    blobs = tmp_path / CACHE / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    os.symlink(victim, blobs / f"{pinned.sha256}.zoo-part")
    assert fetch(pinned).read_bytes() == tiny
    assert victim.read_bytes() == b"precious"


def test_edited_cached_file(hub, pinned, tiny):
    path = fetch(pinned)
    real = Path(os.path.realpath(path))
    real.write_bytes(tiny[:-1] + b"!")
    hub.log.clear()
    with pytest.raises(IntegrityError, match="delete it yourself"):
        fetch(pinned)
    assert real.exists()
    assert hub.log == []


def test_full_disk(hub, pinned, client, tmp_path):
    code = f"""
    import resource, signal
    from zoo.hub.download import fetch
    from zoo.hub.source import Source
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    import huggingface_hub.utils
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        fetch({_source(pinned)})
    except Exception as error:
        print(type(error).__name__, error)
    """
    said = client(code).stdout
    assert said.startswith("WeightsError")
    assert "disk is full" in said
    assert nothing_left(tmp_path)


def test_no_room_is_seen_before_the_first_byte(hub, pinned, monkeypatch):
    from zoo.hub import cache

    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(WeightsError, match="Make room"):
        fetch(pinned)
    assert not hub.requests("GET")


def test_cache_that_cannot_be_written(hub, pinned, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write"):
        fetch(pinned)


def _source(source: Source) -> str:
    return repr(source)


def _fetching(source: Source, *lines: str) -> subprocess.Popen[str]:
    code = "\n".join(
        ["from zoo.hub.source import Source", "from zoo.hub.download import fetch", *lines, f"print(fetch({source!r}))"]
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_download_once(hub, pinned, tiny):
    hub.fault("slow", "GET", value=0.1)
    running = [_fetching(pinned) for _ in range(2)]
    paths = {p.communicate(timeout=60)[0].strip() for p in running}
    assert [p.returncode for p in running] == [0, 0]
    assert len(paths) == 1
    assert len(hub.requests("GET")) == 1
    assert Path(paths.pop()).read_bytes() == tiny


def test_killed_then_again_resumes_and_cleans_up(hub, pinned, tmp_path):
    big = safetensors({"w": ("U8", [6 << 20], os.urandom(6 << 20))})
    commit = hub.repos[REPO].commit({FILE: big})
    source = Source("tiny", "t1", REPO, FILE, commit, sha256(big), len(big))
    hub.fault("slow", "GET", value=0.02, times=1)
    process = _fetching(source)
    part = tmp_path / CACHE / f"models--{REPO.replace('/', '--')}" / "blobs" / f"{source.sha256}.zoo-part"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size >= 1 << 20):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.stat().st_size
    assert 0 < kept < len(big)
    assert fetch(source).read_bytes() == big
    assert hub.requests("GET")[-1][2]["range"] == f"bytes={kept}-"
    assert not part.exists()


def test_unsound_part_of_a_killed_process_is_thrown_away(hub, pinned, tiny, tmp_path):
    blobs = tmp_path / CACHE / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{pinned.sha256}.zoo-part").write_bytes(b"x" * 1000)
    assert fetch(pinned).read_bytes() == tiny


def test_the_guide_names_tests_that_exist():
    """Every row of the table of faults in the guide points at tests of this folder."""
    here = Path(__file__).parent
    guide = (here.parents[1] / "docs" / "guide" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_hub_\w+\.py)::(test_\w+)`", guide)
    assert len(named) > 25
    for file, test in named:
        assert f"\ndef {test}(" in (here / file).read_text(encoding="utf-8"), (file, test)
