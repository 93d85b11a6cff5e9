"""Third-party ``.pth`` files into safetensors that load strictly and compute the right thing. A maintainer's tool."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError
from zoo.hub.source import Source
from zoo.hub.weights import read_verified

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_BYTES = 4 * 2**30
SECONDS = 120
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Converted:
    """What came out: the file with its pins, and how far it has been checked."""

    path: Path
    sha256: str
    size: int
    keys: int
    renamed: Mapping[str, str]
    error: float | None  # against the test vectors; None: not checked

    def __str__(self) -> str:
        checked = "NOT checked against the original" if self.error is None else f"test vectors within {self.error:.2g}"
        return f"{self.path}: {self.keys} keys, {len(self.renamed)} renamed, {checked}; sha256 {self.sha256}"


def extract(path: Path, *, max_bytes: int = MAX_BYTES, seconds: int = SECONDS) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file, read in a separate process under limits; keys and order as in the file.

    Raises:
        WeightsError: too large, not weights only, or the process was stopped.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise WeightsError(f"{path} has {size} bytes, at most {max_bytes} are allowed")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "raw.safetensors"
        command = [sys.executable, "-I", "-m", "zoo.hub.unpickle", str(path.resolve()), str(target)]
        try:
            done = subprocess.run(
                [*command, str(max_bytes), str(seconds)],
                env={k: os.environ[k] for k in _KEPT if k in os.environ},  # no tokens, no paths of the caller
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=folder,
                timeout=4 * seconds,
            )
        except subprocess.TimeoutExpired:
            raise WeightsError(f"{path}: reading it took more than {4 * seconds} s; stopped") from None
        if done.returncode or not target.is_file():
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = lines[-1][:400] if lines and done.returncode > 0 else f"stopped (exit {done.returncode})"
            raise WeightsError(f"{path} was refused: {why}")
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        source = Source(path.name, "", None, target.name, sha256=digest, root=folder)
        numbered = read_verified(target, source, private=True)
        return {name[7:]: numbered[name] for name in sorted(numbered)}


def match_keys(
    tensors: Mapping[str, Tensor], model: nn.Module, *, rename: Sequence[tuple[str, str]] = (), by_order: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under the model's names, and which were renamed (old name -> new name).

    Args:
        tensors: in the order of the file.
        model: whose ``state_dict`` is wanted, all of it and nothing else.
        rename: regular expressions and replacements, tried in order on each key.
        by_order: pair the n-th tensor with the n-th key; each pair must have the same shape. A guess that only test
            vectors can confirm.

    Raises:
        WeightsError: keys or shapes that do not pair.
    """
    slots = model.state_dict()
    names: dict[str, str] = {}
    for key in tensors:
        new = key
        for pattern, replacement in rename:
            new = re.sub(pattern, replacement, new)
        names[key] = new
    if by_order:
        if len(names) != len(slots):
            raise WeightsError(f"by order needs as many tensors as keys: {len(names)} in the file, {len(slots)} wanted")
        names = dict(zip(names, slots, strict=True))
    if len(set(names.values())) != len(names):
        raise WeightsError("two keys of the file were renamed to the same name")
    missing = [k for k in slots if k not in names.values()]
    surplus = [k for k, new in names.items() if new not in slots]
    wrong = [
        f"{k} {tuple(tensors[k].shape)} -> {new} {tuple(slots[new].shape)}"
        for k, new in names.items()
        if new in slots and tensors[k].shape != slots[new].shape
    ]
    if missing or surplus or wrong:
        raise WeightsError(
            f"{len(missing)} keys are missing {missing[:5]}, {len(surplus)} are unknown {surplus[:5]}, "
            f"{len(wrong)} have another shape {wrong[:5]}"
        )
    return {new: tensors[k] for k, new in names.items()}, {k: new for k, new in names.items() if k != new}


def convert(
    path: Path,
    build: Callable[[], nn.Module],
    target: Path,
    *,
    rename: Sequence[tuple[str, str]] = (),
    by_order: bool = False,
    vectors: Path | Mapping[str, Tensor] | None = None,
    label: str = "",
    max_bytes: int = MAX_BYTES,
) -> Converted:
    """``path`` (.pth) into ``target`` (.safetensors) for the model that ``build`` makes.

    Args:
        vectors: input and output of the *original* model. Keys and shapes alone do not show that the computation is the
            same; with vectors the conversion is refused when it is not.

    Raises:
        WeightsError: unreadable, keys that do not pair, or another computation. ``target`` is not written then.
    """
    from safetensors.torch import save

    from zoo.hub.vectors import replay

    if target.suffix != ".safetensors":
        raise WeightsError(f"the target is a .safetensors file; received {target}")
    model = build()
    found, renamed = match_keys(extract(path, max_bytes=max_bytes), model, rename=rename, by_order=by_order)
    model.load_state_dict(found, strict=True)
    error = replay(model, vectors, label=label or path.name) if vectors is not None else None
    data = save({k: v.contiguous() for k, v in model.state_dict().items()}, metadata={"format": "pt"})
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return Converted(target, hashlib.sha256(data).hexdigest(), len(data), len(found), renamed, error)
