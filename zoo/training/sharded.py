"""Checkpoints of sharded runs: each process writes its own part through ``torch.distributed.checkpoint``.

A checkpoint is a folder ``checkpoint-<step>``: tensors as DCP stores them, everything else in ``rest.pt``. It is written
under a hidden name, put on the disk, and then renamed, so that whatever bears the final name is complete; the one
before is removed only after that. DCP finds each tensor by name and position, so that any number of processes reads it.
"""

from __future__ import annotations

import io
import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from zoo.training.distributed import World, whole
from zoo.training.files import sync_folder, write_bytes

REST = "rest.pt"


def save(final: Path, state: dict[str, Any], world: World) -> None:
    """Write the folder ``final``; every process calls it, on a file system that all of them share.

    Args:
        final: ``<folder of the run>/checkpoint-<step>``.
        state: ``algorithm`` and ``optimizer`` state dicts, and whatever else is the same on every process.
        world: the processes.
    """
    hidden = final.with_name(f".{final.name}.tmp")
    if world.first:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
    world.barrier()
    tensors, rest = _apart(state)
    rest = whole(rest)  # a state dict inside a state dict may be sharded too
    with _quiet():
        dcp.save(tensors, storage_writer=FileSystemWriter(hidden, sync_files=True))
    if world.first:
        buffer = io.BytesIO()
        torch.save(rest, buffer)
        write_bytes(hidden / REST, buffer.getvalue())
        sync_folder(hidden)
        publish(hidden, final)
    world.barrier()


def publish(hidden: Path, final: Path) -> None:
    """Give a complete checkpoint its name; one of the same step makes way."""
    shutil.rmtree(final, ignore_errors=True)
    hidden.rename(final)
    sync_folder(final.parent)


def load(path: Path, rest: dict[str, Any], algorithm: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state that :func:`save` was given, its tensors divided as ``algorithm`` and ``optimizer`` are divided now."""
    reader = Reader(path)
    stored = reader.read_metadata().state_dict_metadata
    own = algorithm.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    into: dict[str, Any] = {}
    for key, about in stored.items():
        assert isinstance(about, TensorStorageMetadata)
        part, _, name = key.partition("/")
        dtype = about.properties.dtype
        if part == "algorithm":
            model = own.get(name)
            fits = isinstance(model, Tensor) and model.shape == about.size and model.dtype == dtype
            into[key] = model.detach() if fits else torch.empty(about.size, dtype=dtype)  # type: ignore[union-attr]
        else:
            parameter = parameters[int(name.partition("/")[0])]
            same = parameter.shape == about.size
            like = torch.empty_like(parameter, dtype=dtype) if same else torch.empty(about.size, dtype=dtype)
            into[key] = like.detach()
    with _quiet():
        dcp.load(into, storage_reader=reader)
    moments: dict[int, dict[str, Any]] = {i: dict(entry) for i, entry in rest["optimizer"]["state"].items()}
    state = {**rest, "algorithm": dict(rest["algorithm"]), "optimizer": {**rest["optimizer"], "state": moments}}
    for key, value in into.items():
        part, _, name = key.partition("/")
        if part == "algorithm":
            state["algorithm"][name] = value
        else:
            index, _, what = name.partition("/")
            moments.setdefault(int(index), {})[what] = value
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Without DCP's warning that a process is alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _apart(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under flat names, and the same state without them."""
    tensors = {}
    algorithm, moments = {}, {}
    for name, value in state["algorithm"].items():
        if isinstance(value, Tensor) and value.numel():
            tensors[f"algorithm/{name}"] = value.detach()
        else:
            algorithm[name] = value
    for index, entry in state["optimizer"]["state"].items():
        moments[index] = {k: v for k, v in entry.items() if not (isinstance(v, Tensor) and v.numel())}
        tensors |= {f"optimizer/{index}/{k}": v.detach() for k, v in entry.items() if k not in moments[index]}
    rest = {**state, "algorithm": algorithm, "optimizer": {**state["optimizer"], "state": moments}}
    return tensors, rest


class Reader(FileSystemReader):
    """DCP's reader, which runs no code of the checkpoint: its index is a pickle, and only DCP's own records are built
    from it; a value that would be unpickled while loading is refused.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with self.fs.create_stream(self._get_metadata_path(kwargs.get("rank")), "rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"the index holds a {type(metadata).__name__}")
        for name, about in metadata.state_dict_metadata.items():
            if not isinstance(about, TensorStorageMetadata):
                raise pickle.UnpicklingError(f"{name} is stored as {type(about).__name__}, not as a tensor")
        return metadata


class _Unpickler(pickle.Unpickler):
    _RECORDS = frozenset({
        ("torch.distributed.checkpoint.metadata", "Metadata"),
        ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
        ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "BytesStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "TensorProperties"),
        ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "StorageMeta"),
        ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        ("collections", "OrderedDict"),
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._RECORDS:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in ("pathlib", "pathlib._local") and name in ("PosixPath", "WindowsPath"):
            return PurePath  # where it was written; of no use, and of another system perhaps
        raise pickle.UnpicklingError(f"the index names {module}.{name}, which is no record of a checkpoint")
