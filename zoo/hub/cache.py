"""The Hub client's cache on disk, in its own layout, written only under names that zoo has validated.

``models--org--name/{blobs/<sha256>, snapshots/<commit>/<file> -> ../../blobs/<sha256>, refs/<branch>}``
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import IntegrityError, WeightsError
from zoo.hub import settings
from zoo.hub.source import Source, is_commit, is_sha256

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def folder(source: Source) -> Path:
    return settings.cache_dir() / f"models--{str(source.repo).replace('/', '--')}"


def inside(path: Path, source: Source) -> Path:
    """``path`` with its links resolved; must be a regular file under the cache.

    Raises:
        IntegrityError: a link out of the cache, or not a file.
    """
    real, root = os.path.realpath(path), os.path.realpath(settings.cache_dir())
    if not real.startswith(root + os.sep):
        raise IntegrityError(f"{source.label}: {path} points out of the cache to {real}; refused. Remove it by hand.")
    if not stat.S_ISREG(os.stat(real).st_mode):
        raise IntegrityError(f"{source.label}: {path} is not a regular file")
    return Path(real)


def find(source: Source) -> Path | None:
    """The cached file of a pinned ``source``, or None. Asks nobody and writes nothing but a missing link."""
    base = folder(source)
    pointer = base / "snapshots" / str(source.commit) / source.file
    if pointer.exists():
        inside(pointer, source)
        return pointer
    blob = base / "blobs" / str(source.sha256)
    if source.sha256 and blob.is_file():  # the same bytes came with another commit
        inside(blob, source)
        try:
            link(source, blob)
        except OSError:  # a read-only cache serves as well
            return blob
        return pointer
    return None


def last_known(source: Source) -> tuple[str, str, Path] | None:
    """``(commit, sha256, path)`` of what ``source.branch`` was when the cache last saw it, or None."""
    commit = source.commit
    if commit is None:
        try:
            commit = (folder(source) / "refs" / source.branch).read_text(encoding="ascii")[:64].strip()
        except (OSError, ValueError):
            return None
    if not is_commit(commit):
        return None
    pointer = folder(source) / "snapshots" / commit / source.file
    if not pointer.exists():
        return None
    name = inside(pointer, source).name
    return (commit, name, pointer) if is_sha256(name) else None


def link(source: Source, blob: Path) -> Path:
    """Make ``snapshots/<commit>/<file>`` point at ``blob`` (a copy where links are not possible)."""
    pointer = folder(source) / "snapshots" / str(source.commit) / source.file
    pointer.parent.mkdir(parents=True, exist_ok=True)
    _under_cache(pointer.parent, source)
    relative = os.path.relpath(blob, pointer.parent)
    try:
        os.symlink(relative, pointer)
    except FileExistsError:
        if not pointer.exists():  # a dangling link from an interrupted run
            pointer.unlink()
            os.symlink(relative, pointer)
    except OSError:
        shutil.copyfile(blob, pointer)
    return pointer


def note_branch(source: Source, commit: str) -> None:
    """Remember which commit a branch was, as the Hub's client does, so that it finds the file offline too."""
    reference = folder(source) / "refs" / source.branch
    try:
        reference.parent.mkdir(parents=True, exist_ok=True)
        _under_cache(reference.parent, source)
        if not reference.is_symlink():
            reference.write_text(commit, encoding="ascii")
    except OSError:
        pass


def _under_cache(directory: Path, source: Source) -> None:
    real, root = os.path.realpath(directory), os.path.realpath(settings.cache_dir())
    if not (real + os.sep).startswith(root + os.sep):
        raise IntegrityError(f"{source.label}: {directory} leads out of the cache to {real}; refused")


class Partial:
    """A download in progress: ``blobs/<sha256>.zoo-part``, kept by a killed process for the next one to go on with."""

    def __init__(self, source: Source, blob: Path, size: int) -> None:
        self.source, self.blob, self.size = source, blob, size
        self.path = blob.with_name(blob.name + ".zoo-part")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            if self.path.is_symlink() or (self.path.exists() and self.path.stat().st_nlink != 1):
                self.path.unlink()  # not something that zoo left here
            self.descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise _cannot_write(source, self.path, error) from None
        if os.fstat(self.descriptor).st_size > size:
            os.ftruncate(self.descriptor, 0)
        self.done = os.lseek(self.descriptor, 0, os.SEEK_END)

    def restart(self) -> None:
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        self.done = 0

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while view:
                count = os.write(self.descriptor, view)
                view = view[count:]
                self.done += count
        except OSError as error:
            raise _cannot_write(self.source, self.path, error) from None

    def finish(self) -> None:
        """Move the complete file to its place, durably."""
        try:
            os.fsync(self.descriptor)
            os.replace(self.path, self.blob)
        except OSError as error:
            raise _cannot_write(self.source, self.path, error) from None

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self.descriptor)


@contextmanager
def landing(source: Source, size: int) -> Iterator[Partial | None]:
    """Exclusive right to write the blob of ``source``; yields None when another process has just brought it.

    Whatever goes wrong inside, nothing is left; only a killed process leaves its part, which the next one resumes.
    """
    from filelock import FileLock

    base = folder(source)
    blob = base / "blobs" / str(source.sha256)
    lock = settings.cache_dir() / ".locks" / base.name / f"{source.sha256}.lock"
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(source, blob.parent, error) from None
    _under_cache(blob.parent, source)
    _under_cache(lock.parent, source)
    _room(source, blob.parent, size)
    with FileLock(lock):
        if blob.is_file():
            yield None
            return
        part = Partial(source, blob, size)
        try:
            yield part
        except BaseException:
            part.discard()
            raise
        finally:
            part.close()


def _room(source: Source, directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size:
        raise WeightsError(
            f"{source.label} needs {size / 1e6:.0f} MB and {directory} has {free / 1e6:.0f} MB left. Make room or set "
            f"HF_HUB_CACHE to a larger disk."
        )


def _cannot_write(source: Source, path: Path, error: OSError) -> WeightsError:
    why = "the disk is full" if error.errno in _FULL else (error.strerror or type(error).__name__)
    return WeightsError(f"{source.label}: cannot write {path}: {why}. HF_HUB_CACHE chooses another place.")


def partials(source: Source) -> list[Path]:
    """Unfinished downloads that killed processes left behind."""
    blobs = folder(source) / "blobs"
    return sorted(p for p in blobs.glob("*.zoo-part") if re.fullmatch(r"[0-9a-f]{64}\.zoo-part", p.name))
