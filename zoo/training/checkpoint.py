"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint holds what the next step depends on: algorithm (network, index state, teachers, weight nets with their
optimizers), optimizer, schedule, position and what was measured so far. No generator state: every draw of a run is a
function of seed and position. Tensors are stored whole, so that a run may go on with another number of processes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from zoo.errors import ZooError
from zoo.noisy_labels.base import Algorithm
from zoo.training.distributed import like, whole

FORMAT = 1
FILE = "checkpoint.pt"


def write_bytes(path: Path, blob: bytes) -> None:
    """Put ``blob`` on the disk under ``path``: a reader, or a crash at any moment, finds the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(
    folder: Path,
    algorithm: Algorithm,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    progress: dict[str, Any],
    write: bool = True,
) -> None:
    """Write ``folder/checkpoint.pt``; with sharded parameters every process calls it, and ``write`` is true on one."""
    state = {
        "format": FORMAT,
        "algorithm": whole(algorithm.state_dict()),
        "optimizer": whole(optimizer.state_dict()),
        "schedule": schedule.state_dict(),
        "progress": progress,
    }
    if write:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(folder / FILE, buffer.getvalue())


def read(folder: Path, digest: str, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint in ``folder``; None where there is none.

    Raises:
        ZooError: it belongs to another recipe, is of another format, or is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ZooError(
            f"{path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); --fresh starts over"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ZooError(f"{path} is of another format than {FORMAT}; --fresh starts over")
    if state["progress"]["digest"] != digest:
        raise ZooError(f"{folder} holds a run of another recipe; take another --out, or --fresh to start over")
    return state


def restore(
    state: dict[str, Any], algorithm: Algorithm, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> None:
    """Put the state back into freshly made objects, divided as those are."""
    targets = algorithm.state_dict()
    algorithm.load_state_dict(
        {
            k: like(v, targets[k]) if isinstance(v, Tensor) and isinstance(targets.get(k), Tensor) else v
            for k, v in state["algorithm"].items()
        }
    )
    saved = state["optimizer"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {k: like(v, parameters[i]) if isinstance(v, Tensor) else v for k, v in entry.items()}
        for i, entry in saved["state"].items()
    }
    optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
    schedule.load_state_dict(state["schedule"])


def save_weights(path: Path, network: nn.Module, metadata: dict[str, str], write: bool = True) -> None:
    """The network's tensors as safetensors, whole and on the CPU; the file's bytes depend on them alone."""
    from safetensors.torch import save as to_bytes

    tensors = {k: v.cpu().contiguous().clone() for k, v in whole(dict(network.state_dict())).items()}
    if write:
        write_bytes(path, to_bytes(tensors, metadata))


class Metrics:
    """One JSON object a line, one line an epoch; lines after the checkpoint are dropped when a run goes on.

    Args:
        path: the file; None keeps the lines in memory only.
        epochs: how many epochs of an earlier run stay.
    """

    def __init__(self, path: Path | None, epochs: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = [r for r in _rows(path) if r["epoch"] <= epochs] if path else []
        if path is not None:
            write_bytes(path, "".join(_line(r) for r in self.rows).encode())

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            return  # a line that the end of the process cut short
        yield row
