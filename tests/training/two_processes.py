"""What the tests with two gloo processes share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from zoo.training import distributed
from zoo.training.data import Data
from zoo.training.engine import Result

CLEAN = {"name": "digits", "test": 300, "validation": 0.1, "clean_per_class": 4}
MODEL = {
    "name": "zoo.models.resnet:resnet8",
    "args": {"width": 4},
    "swaps": {"norm": {"group_norm": {"num_groups": 2}}},
}


def fields(**changes: Any) -> dict[str, Any]:
    """Four steps of 512 digits with 40 % wrong labels."""
    base = {"model": MODEL, "data": CLEAN, "noise": {"name": "symmetric_exclusive", "rate": 0.4}}
    base |= {"optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9}}, "epochs": 2, "batch": 512}
    return {**base, **changes}


def state(result: Result) -> dict[str, torch.Tensor]:
    """Every tensor of the algorithm, whole."""
    found = distributed.whole(result.algorithm.state_dict())
    return {k: v.clone() for k, v in found.items() if isinstance(v, torch.Tensor)}


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest one of any number in two states."""
    assert a.keys() == b.keys()
    return max(float((a[k].double().nan_to_num(9.0) - b[k].double().nan_to_num(9.0)).abs().max()) for k in a)


@contextmanager
def double() -> Iterator[None]:
    """Networks and inputs in float64."""
    prepare = Data.prepare
    Data.prepare = lambda self, images: prepare(self, images).double()  # type: ignore[method-assign]
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        Data.prepare = prepare  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


class LocalRatio(torch.optim.Optimizer):
    """A mistake that is easily made: a trust ratio from the norms of what this process holds of a parameter."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                w, g = (t.to_local() if hasattr(t, "to_local") else t for t in (p, p.grad))
                if w.numel():
                    w.sub_(g * (group["lr"] * w.norm() / g.norm().clamp_min(1e-12)))


UNSAFE = """papers:
  local_ratio: {category: optimizers, title: A Local Ratio, authors: [Me], venue: V, year: 2026, url: https://example.org, summary: s}
methods:
  local_ratio: {paper: local_ratio, kind: optimizer, target: "two_processes:LocalRatio", shard_safe: false}
"""


@contextmanager
def unsafe_optimizer(folder: Path) -> Iterator[None]:
    """The registry with :class:`LocalRatio` in it, as a package of someone else would bring it."""
    from zoo.registry.lookup import registry, use
    from zoo.registry.merge import _merge

    before, path = registry(), folder / f"unsafe{os.getpid()}.yaml"
    path.write_text(UNSAFE, encoding="utf-8")
    try:
        _merge(path, allow_code_from="two_processes")
        yield
    finally:
        use(before)


def _worker(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
    }
    torch.set_num_threads(1)
    with distributed.world("cpu"):
        work(rank, *arguments)


def two(work: Callable[..., None], *arguments: Any) -> None:
    """``work(rank, *arguments)`` in two processes with one gloo group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, args=(port, work, arguments), nprocs=2)
