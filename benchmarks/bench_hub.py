"""Loading weights whose every byte is checked: what the check costs, and that it runs beside the construction."""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from common import interleave, main, row
from safetensors.torch import save_file
from torch import nn

from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.weights import forget_verified, open_weights


class Wide(nn.Module):
    """256 layers of 1024 x 1024: a file of 1.07 GB."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024) for _ in range(256))


def stored(model: nn.Module, path: Path) -> Source:
    save_file(model.state_dict(), path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Source(path.stem, "", None, path.name, sha256=digest, size=path.stat().st_size, root=str(path.parent))


def fine_tuning(folder: Path, rounds: int = 7) -> list[dict[str, Any]]:
    """ResNet-50 with a new classifier, SHA-256 checked, against timm's own path from the same file."""
    path = folder / "resnet50.safetensors"
    source = stored(timm.create_model("resnet50"), path)
    cfg = timm.get_pretrained_cfg("resnet50").to_dict()

    def ours() -> None:
        forget_verified()
        load_into(
            lambda: timm.create_model("resnet50", num_classes=10), open_weights(path, source), cfg=cfg, num_classes=10
        )

    def theirs() -> None:
        timm.create_model("resnet50", pretrained=True, num_classes=10, pretrained_cfg_overlay={"file": str(path)})

    found = interleave({"ours": ours, "theirs": theirs}, rounds)
    what = "102 MB, SHA-256 over every byte, new classifier of 10 classes"
    return [
        row(
            "pretrained resnet50, num_classes=10",
            what,
            found["ours"],
            found["theirs"],
            0.4,
            rounds,
            "timm pretrained=True",
        )
    ]


def one_gigabyte(folder: Path, rounds: int = 3) -> list[dict[str, Any]]:
    """The bound of a first load is the hash itself; building and assigning hide behind it."""
    path = folder / "wide.safetensors"
    source = stored(Wide(), path)

    def ours() -> None:
        forget_verified()
        load_into(Wide, open_weights(path, source))

    def hash_alone() -> None:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
            hashlib.sha256(mapping).digest()

    def again() -> None:
        load_into(Wide, open_weights(path, source))

    found = interleave({"ours": ours, "hash": hash_alone, "again": again}, rounds, warmup=1)
    reference = "hashlib.sha256 over the mapped file, nothing else"
    return [
        row("1.07 GB file, first load", "hash, build and assign", found["ours"], found["hash"], 1.2, rounds, reference),
        row(
            "1.07 GB file, verified in this process",
            "build and assign",
            found["again"],
            found["hash"],
            0.2,
            rounds,
            reference,
        ),
    ]


PEAK = """
import sys
from pathlib import Path
import bench_hub
from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.weights import open_weights

def status(field):
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(field))

path = Path(sys.argv[1])
source = Source("wide", "", None, path.name, sha256=sys.argv[2], size=path.stat().st_size, root=str(path.parent))
load_into(lambda: bench_hub.nn.Linear(2, 2), {"weight": bench_hub.torch.ones(2, 2), "bias": bench_hub.torch.ones(2)})
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = status("VmRSS")
load_into(bench_hub.Wide, open_weights(path, source))
print(status("VmHWM") - before)
"""


def peak_memory(folder: Path) -> list[dict[str, Any]]:
    """What a process holds beyond what it held before, file pages included: the file once."""
    if not sys.platform.startswith("linux"):
        return []
    source = stored(Wide(), folder / "peak.safetensors")
    command = [sys.executable, "-c", PEAK, str(folder / "peak.safetensors"), str(source.sha256)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    held, size = int(done.stdout) / 1e6, int(source.size or 0) / 1e6
    what = "high-water mark of resident memory, fresh process"
    return [row("1.07 GB file, peak memory", what, held, size, 1.1, 1, "size of the file", unit="MB")]


def run() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return fine_tuning(Path(folder)) + one_gigabyte(Path(folder)) + peak_memory(Path(folder))


if __name__ == "__main__":
    main("hub", run)
