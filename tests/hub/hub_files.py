"""Files for the tests of the hub package."""

from __future__ import annotations

import json
import struct
from pathlib import Path

REPO, FILE = "zoo-tests/tiny", "model.safetensors"


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """A file in the format, written from its description: header length, JSON, bytes."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + b"".join(t[2] for t in tensors.values())


def files_under(folder: Path) -> dict[str, int]:
    """Regular files below ``folder`` with their sizes, lock files aside."""
    return {
        str(p.relative_to(folder)): p.stat().st_size
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_symlink() and p.suffix != ".lock"
    }
