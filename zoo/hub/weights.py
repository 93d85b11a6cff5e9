"""Safetensors files read so that what is verified is what is loaded.

The file is opened once. Its size and SHA-256 are taken from the open descriptor, the hash in a thread (hashlib lets
go of the interpreter) while the caller builds the model; the tensors are views of the same mapping, copy-on-write.
Where somebody else could write the file, or on request, the bytes are first read into private memory instead, since a
mapping of a file that is changed later would change with it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import IntegrityError, WeightsError
from zoo.hub.source import MAX_BYTES, Source

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 8 * 2**20
MAX_TENSORS = 20_000
MAX_DIMS = 8
#: safetensors name -> (torch name, bytes); what weights of image models are made of.
DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}  # fmt: skip

#: Files that this process has hashed: (device, inode, size, mtime_ns, ctime_ns) -> sha256.
_verified: dict[tuple[int, ...], str] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header: where its bytes lie in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def forget_verified() -> None:
    """Drop the notes of this process, so that the next load hashes again."""
    _verified.clear()


class WeightsFile:
    """An open weights file whose hash is being taken. Use ``tensors()``, which waits for the verdict.

    Args:
        path: file, or an open descriptor (which stays the caller's).
        source: what the bytes must be; an unpinned sha256 is an error.
        max_parameters: cap on the number of values in the file, from the registry.
        private: read into memory of our own; default: only where another user could write the file.

    Raises:
        IntegrityError: not a regular file, wrong size, a header that breaks a rule; from ``tensors()``: wrong SHA-256.
        WeightsError: no sha256 to check against, or the file cannot be opened.
    """

    def __init__(
        self, path: Path | str | int, source: Source, *, max_parameters: int | None = None, private: bool | None = None
    ) -> None:
        if source.sha256 is None:
            raise WeightsError(f"{source.label} has no sha256 to check {path} against")
        self.source, self.path = source, path
        try:
            descriptor = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY)
        except OSError as error:
            raise WeightsError(f"{source.label}: cannot open {path}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            self.size = status.st_size
            if not stat.S_ISREG(status.st_mode) or not 8 < self.size <= MAX_BYTES:
                raise IntegrityError(f"{source.label}: {path} is not a file of weights ({self.size} bytes)")
            if source.size is not None and self.size != source.size:
                raise IntegrityError(
                    f"{source.label}: {path} has {self.size} bytes, {source.size} are promised. {_advice(source)}"
                )
            self._note = (status.st_dev, status.st_ino, self.size, status.st_mtime_ns, status.st_ctime_ns)
            self._buffer: Any = self._bytes(descriptor, status, private)
        finally:
            os.close(descriptor)
        self._digest: str | None = None if self.private else _verified.get(self._note)
        self._thread: threading.Thread | None = None
        if self._digest is None:
            self._thread = threading.Thread(target=self._hash, name="zoo-sha256", daemon=True)
            self._thread.start()
        try:
            self.entries = read_header(self._buffer, self.size, source, max_parameters)
        except BaseException:
            self.verify()  # altered bytes explain a broken header better than the header does
            raise

    def _bytes(self, descriptor: int, status: os.stat_result, private: bool | None) -> Any:
        if private is None:
            mine = not hasattr(os, "getuid") or status.st_uid in (os.getuid(), 0)
            private = not mine or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and _shared_group(status))
        self.private = private
        if not private:
            mapping = mmap.mmap(descriptor, self.size, access=mmap.ACCESS_COPY)
            if hasattr(mmap, "MADV_WILLNEED"):
                mapping.madvise(mmap.MADV_WILLNEED)  # the disk reads ahead of the hash
            return mapping
        memory = mmap.mmap(-1, self.size)
        view, done = memoryview(memory), 0
        while done < self.size:
            count = os.preadv(descriptor, [view[done : done + (64 << 20)]], done)
            if count == 0:
                raise IntegrityError(f"{self.source.label}: {self.path} became shorter while it was read")
            done += count
        view.release()
        return memory

    def _hash(self) -> None:
        self._digest = hashlib.sha256(self._buffer).hexdigest()

    def verify(self) -> str:
        """Wait for the SHA-256 and compare it; returns it.

        Raises:
            IntegrityError: it is not the one promised. Nothing is deleted, nothing else is tried.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._digest != self.source.sha256:
            raise IntegrityError(
                f"{self.source.label}: {self.path} has sha256 {self._digest}, {self.source.sha256} is promised. "
                f"{_advice(self.source)}"
            )
        if not self.private:
            _verified[self._note] = str(self._digest)
        return str(self._digest)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, views of the verified bytes (writing to one copies its pages, the file stays)."""
        import torch

        self.verify()
        tensors: dict[str, Tensor] = {}
        for name, entry in self.entries.items():
            dtype = getattr(torch, DTYPES[entry.dtype][0])
            count = prod(entry.shape)
            if count == 0:
                tensors[name] = torch.empty(entry.shape, dtype=dtype)
                continue
            flat = torch.frombuffer(self._buffer, dtype=dtype, count=count, offset=entry.start)
            if entry.start % flat.element_size():  # legal in the format, slow or worse in a kernel
                flat = flat.clone()
            tensors[name] = flat.view(entry.shape)
        return tensors


def _shared_group(status: os.stat_result) -> bool:
    """Group-writable is harmless where the group is the user's own; world-writable never is."""
    return bool(status.st_mode & stat.S_IWOTH) or status.st_gid != os.getgid()


def _advice(source: Source) -> str:
    if source.repo is None:
        return "Install the package again."
    return f"The file was altered or is damaged; delete it yourself, then: {source.prefetch}"


def read_header(buffer: Any, size: int, source: Source, max_parameters: int | None = None) -> dict[str, Entry]:
    """Parse and check a safetensors header: own limits first, then that the tensors tile the rest of the file exactly.

    Raises:
        IntegrityError: anything that is not so.
    """

    def refuse(why: str) -> IntegrityError:
        return IntegrityError(f"{source.label}: {source.file} is refused: {why}")

    length = int.from_bytes(buffer[:8], "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise refuse(f"its header claims {length} bytes (allowed: 2 to {min(MAX_HEADER, size - 8)})")
    raw = bytes(buffer[8 : 8 + length])
    if raw.count(b'"dtype"') > MAX_TENSORS:  # before the parser spends time on them
        raise refuse(f"more than {MAX_TENSORS} tensors")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise refuse(f"its header is not valid: {error}") from None
    if not isinstance(header, dict):
        raise refuse("its header is not an object")
    header.pop("__metadata__", None)
    if not 1 <= len(header) <= MAX_TENSORS:
        raise refuse(f"it holds {len(header)} tensors (allowed: 1 to {MAX_TENSORS})")

    base, values, entries = 8 + length, 0, {}
    for name, row in header.items():
        if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
            raise refuse(f"tensor {name[:80]!r} is not described by dtype, shape, data_offsets")
        dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise refuse(f"tensor {name[:80]!r} has dtype {str(dtype)[:20]!r} (allowed: {', '.join(DTYPES)})")
        if not _naturals(shape) or len(shape) > MAX_DIMS or not _naturals(offsets) or len(offsets) != 2:
            raise refuse(f"tensor {name[:80]!r} has a malformed shape or offsets")
        start, stop = offsets
        if stop - start != prod(shape) * DTYPES[dtype][1] or stop > size - base:
            raise refuse(f"tensor {name[:80]!r} of shape {shape[:MAX_DIMS]} does not have the bytes it needs")
        values += prod(shape)
        entries[name] = Entry(dtype, tuple(shape), base + start, base + stop)
    if max_parameters is not None and values > max_parameters:
        raise refuse(f"it holds {values:,} values, the registry expects at most {max_parameters:,}")
    at = base
    for entry in sorted(entries.values(), key=lambda e: (e.start, e.stop)):
        if entry.start != at:
            raise refuse("its tensors overlap or leave a hole")
        at = entry.stop
    if at != size:
        raise refuse(f"{size - at} bytes follow the last tensor")
    return entries


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v <= MAX_BYTES for v in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def open_weights(
    path: Path | str | int, source: Source, *, max_parameters: int | None = None, private: bool | None = None
) -> WeightsFile:
    """Open ``path`` and start to verify it against ``source``; see ``WeightsFile``."""
    return WeightsFile(path, source, max_parameters=max_parameters, private=private)


def read_verified(
    path: Path | str | int, source: Source, *, max_parameters: int | None = None, private: bool | None = None
) -> dict[str, Tensor]:
    """The tensors of a file whose every byte has been checked against ``source``."""
    return open_weights(path, source, max_parameters=max_parameters, private=private).tensors()


def verify_file(path: Path | str | int, source: Source) -> Mapping[str, Entry]:
    """Check size, SHA-256 and header without torch; returns the header's entries."""
    file = open_weights(path, source)
    file.verify()
    return file.entries
