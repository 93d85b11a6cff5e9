"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint holds what the next step depends on: algorithm (network, index state, teachers, weight nets with their
optimizers), optimizer, schedule, position and what was measured so far. No generator state: every draw of a run is a
function of seed and position. Tensors are stored whole in one file; a run whose parameters are sharded writes
:mod:`zoo.training.sharded` folders instead. A run may go on from either, with another number of processes.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from zoo.errors import ZooError
from zoo.noisy_labels.base import Algorithm
from zoo.training.distributed import World, like, whole
from zoo.training.files import write_bytes
from zoo.training.progress import FOLDER as TENSORBOARD

FORMAT = 1
FILE = "checkpoint.pt"
METRICS, REPORT, SUSPECTS = "metrics.jsonl", "report.json", "suspects.csv"
WEIGHTS = {name: f"{name}.safetensors" for name in ("best", "last")}
_SHARDED = re.compile(r"checkpoint-\d{10}")


def save(
    folder: Path,
    algorithm: Algorithm,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    progress: dict[str, Any],
    world: World,
    parallel: str = "ddp",
) -> None:
    """Write the checkpoint of a step; every process calls it. The one before goes when the new one is complete."""
    state = {
        "format": FORMAT,
        "algorithm": algorithm.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "progress": progress,
    }
    if parallel == "fsdp2" and world.size > 1:
        from zoo.training import sharded  # torch.distributed.checkpoint takes a second to import

        final = folder / f"checkpoint-{progress['step']:010d}"
        sharded.save(final, state, world)
        if world.first:
            (folder / FILE).unlink(missing_ok=True)
            remove_sharded(folder, keep=final)
        return
    state = whole(state)
    if world.first:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(folder / FILE, buffer.getvalue())
        remove_sharded(folder)


def published(folder: Path) -> list[Path]:
    """The complete sharded checkpoints in ``folder``, the newest last."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in found if p.is_dir() and _SHARDED.fullmatch(p.name))


def remove_sharded(folder: Path, keep: Path | None = None) -> None:
    """Delete sharded checkpoints, and what a killed process left of one, except ``keep``."""
    for path in [*folder.glob(".checkpoint-*.tmp"), *published(folder)]:
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete what a run writes: checkpoints, metrics, weights, report, suspects, TensorBoard's files. The rest stays."""
    names = (FILE, METRICS, REPORT, SUSPECTS, *WEIGHTS.values())
    cut_short = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.\d+\.tmp")  # what a killed process left
    board = folder / TENSORBOARD
    for path in [
        *(folder / name for name in names),
        *(p for p in folder.glob(".*.tmp") if cut_short.fullmatch(p.name)),
        *board.glob("events.out.tfevents.*"),
    ]:
        if path.is_file() or path.is_symlink():
            path.unlink()
    if board.is_dir() and not board.is_symlink() and not any(board.iterdir()):
        board.rmdir()
    remove_sharded(folder)


def read(folder: Path, digest: str, device: torch.device) -> dict[str, Any] | None:
    """The newest checkpoint in ``folder``; None where there is none. A sharded one comes without its tensors.

    Raises:
        ZooError: it belongs to another recipe, is of another format, or is damaged.
    """
    found = []
    for path in [*([folder / FILE] if (folder / FILE).is_file() else []), *published(folder)[-1:]]:
        try:
            file = path / "rest.pt" if path.is_dir() else path
            state = torch.load(file, map_location=device, weights_only=True)
            if path.is_dir():
                state["shards"] = path
        except Exception as error:
            raise _damaged(path, error) from None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ZooError(f"{path} is of another format than {FORMAT}; --fresh starts over")
        if state["progress"]["digest"] != digest:
            raise ZooError(f"{folder} holds a run of another recipe; take another --out, or --fresh to start over")
        found.append(state)
    return max(found, key=lambda state: state["progress"]["step"], default=None)


def _damaged(path: Path, error: Exception) -> ZooError:
    said = (str(error).splitlines() or [""])[0]
    return ZooError(f"{path} cannot be read ({type(error).__name__}: {said}); --fresh starts over")


def restore(
    state: dict[str, Any], algorithm: Algorithm, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> None:
    """Put the state back into freshly made objects, divided as those are.

    Raises:
        ZooError: a sharded checkpoint that is damaged.
    """
    path = state.get("shards")
    if path is not None:
        from zoo.training import sharded

        try:
            state = sharded.load(path, state, algorithm, optimizer)
        except Exception as error:
            raise _damaged(path, error) from error
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
