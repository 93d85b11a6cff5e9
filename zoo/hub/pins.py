"""The user's own lock: what an unpinned entry turned out to be when it was first used.

A JSON file (``settings.pins_path``) of ``key -> {commit, sha256, size, endpoint, first_used}``. It is replaced as
a whole under a lock, so that two processes that trust different entries at once both find them there afterwards.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.errors import PinError
from zoo.hub import settings
from zoo.hub.source import MAX_BYTES, Source, is_commit, is_sha256

_MAX_FILE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Pin:
    commit: str
    sha256: str
    size: int
    endpoint: str = settings.DEFAULT_ENDPOINT
    first_used: str = ""

    def agrees(self, source: Source) -> bool:
        """No part that ``source`` states says otherwise. Another commit with the same bytes is no disagreement."""
        return source.sha256 in (None, self.sha256) and source.size in (None, self.size)


def read(path: Path | None = None) -> dict[str, Pin]:
    """Every remembered pin.

    Raises:
        PinError: the file is not what this module writes. It is never silently replaced: that would forget trust.
    """
    path = path or settings.pins_path()
    try:
        if path.stat().st_size > _MAX_FILE:
            raise PinError(f"{path} is larger than {_MAX_FILE} bytes, so it is not zoo's own lock; move it away")
        rows = json.loads(path.read_text(encoding="utf-8"))
        pins = {key: Pin(**row) for key, row in rows["pins"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PinError(f"{path} is not a lock file of zoo ({error}); repair it or move it away") from None
    for key, pin in pins.items():
        sound = is_commit(pin.commit) and is_sha256(pin.sha256)
        if not sound or type(pin.size) is not int or not 0 < pin.size <= MAX_BYTES:
            raise PinError(f"{path}: the pin of {key} is malformed; repair it or remove the entry")
    return pins


def recall(source: Source) -> Pin | None:
    """What was trusted for ``source`` before, if anything."""
    return read().get(source.key)


def remember(source: Source, pin: Pin) -> Pin:
    """Record ``pin`` unless one stands already; the one that stands is returned and must agree.

    Raises:
        PinError: another pin was recorded before, with other bytes.
    """
    with _locked() as path:
        pins = read(path)
        known = pins.get(source.key)
        if known is not None:
            if known.sha256 != pin.sha256:
                raise changed(source, known, pin.commit, pin.sha256)
            return known
        pins[source.key] = pin
        _write(path, pins)
    return pin


def forget(source: Source) -> bool:
    """Drop the pin of ``source`` so that the next use trusts anew; True if there was one."""
    with _locked() as path:
        pins = read(path)
        if pins.pop(source.key, None) is None:
            return False
        _write(path, pins)
    return True


def changed(source: Source, known: Pin, commit: str | None, sha256: str | None) -> PinError:
    """The error for bytes that are not those trusted on first use."""
    return PinError(
        f"{source.label}: on first use ({known.first_used or 'earlier'}) this was commit {known.commit[:12]} with "
        f"sha256 {known.sha256}; now it is said to be commit {(commit or 'unknown')[:12]} with sha256 "
        f"{sha256 or 'unknown'}. Refused. If the change is right, forget the old pin: `zoo forget {source.name}` "
        f"(lock: {settings.pins_path()})"
    )


@contextmanager
def _locked() -> Iterator[Path]:
    from filelock import FileLock

    path = settings.pins_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=30):
        yield path


def _write(path: Path, pins: dict[str, Pin]) -> None:
    rows = {"format": 1, "pins": {key: asdict(pins[key]) for key in sorted(pins)}}
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(rows, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
