"""From a ``Source`` to a file on this machine: pinned, cached, resumable, and clear when it cannot be."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from zoo.errors import HubError, IntegrityError, PinError, WeightsError
from zoo.hub import cache, pins, settings, transport
from zoo.hub.source import Source, require_pin

_log = logging.getLogger("zoo.hub")
Progress = bool | Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on this machine and the source it must agree with, fully pinned."""

    path: Path
    source: Source


def fetch(
    source: Source,
    *,
    strict_pins: bool | None = None,
    offline: bool | None = None,
    endpoint: str | None = None,
    progress: Progress = True,
) -> Path:
    """``obtain``, and the whole file checked: the path of bytes that are what was promised."""
    from zoo.hub.weights import verify_file

    found = obtain(source, strict_pins=strict_pins, offline=offline, endpoint=endpoint, progress=progress)
    verify_file(found.path, found.source)
    return found.path


def obtain(
    source: Source,
    *,
    strict_pins: bool | None = None,
    offline: bool | None = None,
    endpoint: str | None = None,
    progress: Progress = True,
) -> Fetched:
    """The file of ``source`` from the cache or the Hub. Reading it (``weights.open_weights``) is what verifies it.

    A pinned file that is cached costs no request. An entry without a pin is resolved once: the branch to a commit, its
    SHA-256 as the Hub declares it for that commit; both are recorded in the user's own lock and held from then on.

    Args:
        source: what to fetch.
        strict_pins: refuse entries that the registry does not pin; default ``ZOO_STRICT_PINS``.
        offline: ask nobody; default ``HF_HUB_OFFLINE``.
        endpoint: a Hub other than the default; explicitly given, it may be any https address.
        progress: a bar on a terminal, or a callable that receives ``(done, total)`` bytes.

    Raises:
        PinError: unpinned under ``strict_pins``, or no longer what was trusted on first use.
        HubError: refused, unreachable, offline and not cached, or answers that contradict each other.
        IntegrityError: bytes that are not those promised. Nothing is left behind.
        WeightsError: no room, no permission to write.
    """
    require_pin(source, settings.strict_mode(strict_pins))
    if source.repo is None:
        return Fetched(_bundled(source), source)
    trusted = None if source.pinned else pins.recall(source)
    wanted = _held(source, trusted) if trusted else source
    if wanted.pinned and (path := cache.find(wanted)):
        return Fetched(path, wanted)
    if settings.offline_mode(offline):
        return _from_last_known(wanted, "offline mode is on")
    hub = settings.endpoint(endpoint)
    try:
        transport.reach(hub)
    except HubError as error:
        return _from_last_known(wanted, str(error))
    token = settings.token() if source.gated else None
    known = transport.declared(wanted, wanted.commit or wanted.branch, hub, token)
    resolved = _agreed(wanted, known, trusted)
    path = cache.find(resolved) or _download(resolved, known, hub, token, progress)
    if not source.pinned and trusted is None:
        _trust(source, resolved, hub)
    return Fetched(path, resolved)


def _bundled(source: Source) -> Path:
    path = Path(str(source.root)) / source.file
    if not path.is_file():
        raise WeightsError(f"{source.label}: the bundled file {path} is missing; install the package again")
    return path


def _held(source: Source, pin: pins.Pin) -> Source:
    """``source`` completed by what was trusted on first use."""
    if not pin.agrees(source) or (source.commit and source.commit != pin.commit):
        raise pins.changed(source, pin, source.commit, source.sha256)
    return replace(source, commit=pin.commit, sha256=pin.sha256, size=pin.size)


def _from_last_known(source: Source, why: str) -> Fetched:
    """Without the network: what the cache last knew an unpinned entry to be, or an error that says what to do."""
    found = None if source.pinned else cache.last_known(source)
    if found is None or source.sha256 not in (None, found[1]):
        raise HubError(
            f"{source.label} is not in the cache ({settings.cache_dir()}) and {why}. "
            f"With the network, this brings it: {source.prefetch}"
        )
    commit, sha256, path = found
    resolved = replace(source, commit=commit, sha256=sha256, size=path.stat().st_size)
    from zoo.hub.weights import verify_file

    verify_file(path, resolved)
    _trust(source, resolved, "cache")
    return Fetched(path, resolved)


def _agreed(source: Source, known: transport.Declared, trusted: pins.Pin | None) -> Source:
    """``source`` completed by what the Hub declares; both must tell the same story."""
    if source.sha256 and known.sha256 and source.sha256 != known.sha256:
        if trusted:
            raise pins.changed(source, trusted, known.commit, known.sha256)
        raise IntegrityError(
            f"{source.label}: the registry pins sha256 {source.sha256}, the Hub declares {known.sha256} for "
            f"{source.repo}/{source.file} at {known.commit[:12]}. Nothing was downloaded."
        )
    sha256 = source.sha256 or known.sha256
    if sha256 is None:
        raise PinError(
            f"{source.label} is unpinned and the Hub declares no SHA-256 for {source.repo}/{source.file} "
            f"(the file is not stored as LFS), so there is nothing to check its bytes against"
        )
    if source.size and known.size and source.size != known.size:
        raise IntegrityError(
            f"{source.label}: {source.size} bytes are pinned, the Hub declares {known.size}. Nothing was downloaded."
        )
    size = source.size or known.size
    if size is None:
        raise HubError(f"{source.label}: the Hub does not say how large {source.file} is; refused")
    return replace(source, commit=source.commit or known.commit, sha256=sha256, size=size)


def _download(source: Source, known: transport.Declared, hub: str, token: str | None, progress: Progress) -> Path:
    url = f"{hub}/{source.repo}/resolve/{source.commit}/{source.file}"
    size = int(source.size or 0)
    blob = cache.folder(source) / "blobs" / str(source.sha256)
    with cache.landing(source, size) as part:
        if part is not None:
            digest = _digest_so_far(part)
            resumed = part.done > 0

            def write(chunk: bytes) -> None:
                part.write(chunk)
                digest.update(chunk)

            def restart() -> None:
                nonlocal digest
                part.restart()
                digest = hashlib.sha256()

            with _telling(source, size, progress) as tell:
                tell(part.done)
                for last in (not resumed, True):
                    transport.transfer(
                        source, url, known.location, write, restart, size=size, done=part.done, token=token, tell=tell
                    )
                    if digest.hexdigest() == source.sha256:
                        break
                    if last:
                        raise IntegrityError(
                            f"{source.label}: {source.repo}/{source.file} should have sha256 {source.sha256}; "
                            f"the bytes received have {digest.hexdigest()}. They were thrown away."
                        )
                    restart()  # the part that a killed process had left was not sound
            part.finish()
    pointer = cache.link(source, blob)
    cache.inside(pointer, source)
    return pointer


def _digest_so_far(part: cache.Partial) -> hashlib._Hash:
    digest = hashlib.sha256()
    os.lseek(part.descriptor, 0, os.SEEK_SET)
    while chunk := os.read(part.descriptor, transport.CHUNK):
        digest.update(chunk)
    return digest


def _trust(source: Source, resolved: Source, hub: str) -> None:
    pin = pins.Pin(str(resolved.commit), str(resolved.sha256), int(resolved.size or 0), hub, date.today().isoformat())
    pins.remember(source, pin)
    if source.branch and source.commit is None:
        cache.note_branch(source, pin.commit)
    _log.warning(
        "%s is not pinned by the registry: trusted on first use at commit %s, sha256 %s (recorded in %s)",
        source.label, pin.commit[:12], pin.sha256[:12], settings.pins_path(),
    )  # fmt: skip


@contextmanager
def _telling(source: Source, size: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Where progress goes: a callable, a bar on a terminal, or nowhere."""
    import sys

    if callable(progress):
        yield lambda done: progress(done, size)
    elif not progress or settings.progress_disabled() or not sys.stderr.isatty():
        yield lambda done: None
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(source.label, total=size)
            yield lambda done: bar.update(task, completed=done)
