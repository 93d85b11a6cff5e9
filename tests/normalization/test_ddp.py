"""Two gloo processes: statistics stay local, buffers are broadcast from rank 0 or not, gradients are averaged.

One pair of processes goes through every norm with buffers (found in the registry), so that starting them is paid once.
"""

from __future__ import annotations

import copy
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import zoo
from zoo.registry.lookup import registry

C = 6
STEPS = 3


def norms() -> dict[str, dict[str, Any]]:
    """Every norm of the registry with buffers, and the arguments with which it is tested."""
    found: dict[str, dict[str, Any]] = {}
    for name, method in registry().raw.methods.items():
        if method["kind"] != "norm":
            continue
        arguments = {"batch_channel_norm": {"num_groups": 2}}.get(name, {})
        with torch.device("meta"):
            if list(zoo.create(name, 32, **arguments).buffers()):
                found[name] = arguments
    found["batch_renorm"] = {"schedule": (0, 2, 2), "momentum": 0.3}
    found["moving_average_bn"] = {"buffer_size": 2, "warmup": 2, "clip_after": 2}
    return found


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A convolution before the norm, so that its gradient goes through the norm's backward pass."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, C, 1), zoo.create(name, C, **arguments)).double().train()


def batch(rank: int, step: int) -> Tensor:
    """Data that differ between processes in mean and scale."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(4, 3, 3, 2, generator=generator, dtype=torch.float64) * (1 + rank) + rank


def loss_of(y: Tensor) -> Tensor:
    return (torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape) * (y + y.sin())).mean()


def train_step(model: nn.Module, x: Tensor, name: str) -> None:
    model.zero_grad()
    loss_of(model(x)).backward()


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "buffers": {k: b.detach().clone() for k, b in model.named_buffers()},
        "gradients": {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None},
        "parameters": {k: p.detach().clone() for k, p in model.named_parameters()},
    }


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    left: dict[str, Any] = {}
    for name, arguments in norms().items():
        for broadcast in (True, False):
            model = build(name, arguments)
            if name.startswith("actnorm"):  # as its docstring asks: the first batch before the wrapping
                model(batch(rank, 99))
            wrapped = DistributedDataParallel(model, broadcast_buffers=broadcast)
            records = []
            for step in range(STEPS):
                train_step(wrapped, batch(rank, step), name)
                records.append(snapshot(model))
            left[f"{name}/{broadcast}"] = records
    torch.save(left, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two processes recorded."""
    folder: Path = tmp_path_factory.mktemp("ddp")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, (port, str(folder)), nprocs=2)
    return torch.load(folder / "0.pt"), torch.load(folder / "1.pt")


def alone(name: str, rank: int, state: dict[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """The same steps in one process without DDP; ``state`` replaces the module's before the first step."""
    model = build(name, norms()[name])
    if name.startswith("actnorm"):
        model(batch(0, 99))  # rank 0's initialisation is what DDP hands out
    if state is not None:
        model.load_state_dict(state)
    records = []
    for step in range(STEPS):
        train_step(model, batch(rank, step), name)
        records.append(snapshot(model))
    return records


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k].double(), b[k].double(), atol=1e-10) for k in a)


@pytest.mark.parametrize("name", norms())
@pytest.mark.parametrize("broadcast", [True, False], ids=["broadcast", "local"])
def test_gradients_are_equal_and_the_mean(runs: Any, name: str, broadcast: bool) -> None:
    """Both processes end with one gradient: the mean of what each finds alone from its own state."""
    for step, (zero, one) in enumerate(zip(*(r[f"{name}/{broadcast}"] for r in runs), strict=True)):
        assert same(zero["gradients"], one["gradients"]), step
        assert same(zero["parameters"], one["parameters"])
        if step == 0 or not broadcast:
            a, b = alone(name, 0)[step]["gradients"], alone(name, 1)[step]["gradients"]
            assert same(zero["gradients"], {k: (a[k] + b[k]) / 2 for k in a}), step


@pytest.mark.parametrize("name", norms())
def test_statistics_are_local(runs: Any, name: str) -> None:
    """Without broadcasting, each process has exactly the statistics of its own batches, and they differ."""
    for rank in (0, 1):
        for step, record in enumerate(alone(name, rank)):
            assert same(runs[rank][f"{name}/False"][step]["buffers"], record["buffers"]), (rank, step)
    zero, one = (r[f"{name}/False"][-1]["buffers"] for r in runs)
    assert same(zero, one) is (name.startswith("actnorm"))  # its only buffer is the flag


@pytest.mark.parametrize("name", norms())
def test_broadcast_is_of_rank_0(runs: Any, name: str) -> None:
    """With broadcasting, rank 0 keeps its own statistics, and rank 1 starts every step from them."""
    records = alone(name, 0)
    for step, record in enumerate(records):
        assert same(runs[0][f"{name}/True"][step]["buffers"], record["buffers"]), step
    model = build(name, norms()[name])
    model.load_state_dict(copy.deepcopy({**records[-2]["parameters"], **records[-2]["buffers"]}))
    train_step(model, batch(1, STEPS - 1), name)
    assert same(runs[1][f"{name}/True"][-1]["buffers"], snapshot(model)["buffers"])
