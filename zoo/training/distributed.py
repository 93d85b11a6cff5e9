"""Several processes that give the numbers of one.

Every process sees the global batch and runs the whole algorithm on it; only the network's forward and backward passes
are divided. :class:`Shared` sends each process's rows through the network and gathers the logits, so that whatever
looks across samples (small-loss selection, weights of sum 1, index state) sees the global batch, is the same
everywhere, and needs no communication of its own. Backward, each process gets the gradient of its own rows, times the
number of processes, because DistributedDataParallel and FSDP2 take the mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.noisy_labels.base import Algorithm, Pair


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """The processes that ``torchrun`` started, or this one alone; a group that exists already is used and left alone.

    Raises:
        ZooError: a device that is not there.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        if chosen.type == "cuda" and size > 1 and chosen.index is None:
            chosen = torch.device("cuda", local)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    if size == 1 and not dist.is_initialized():
        yield World(0, 1, chosen)
        return
    own = not dist.is_initialized()
    if own:
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(minutes=10))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        if own:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; backward takes the own rows of a gradient all share."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        first = dist.get_rank() * ctx.rows
        return gradient[first : first + ctx.rows] * dist.get_world_size()


class Shared(nn.Module):
    """A network whose training passes are divided over the processes: ``(N, *)`` to ``(N, K)``, N the global batch.

    Passes at other parameters than its own (``torch.func.functional_call``, as look-ahead methods make) and in evaluation
    mode run whole on every process. State dict keys are those of the bare network.

    Args:
        module: the network; sharded already where ``sharded``.
        world: the processes.
        sharded: by ``fully_shard`` instead of DistributedDataParallel.
    """

    #: Gradients are those of the whole batch after ``backward()`` only; look-ahead methods take passes of their own.
    shares_batch = True

    def __init__(self, module: nn.Module, world: World, sharded: bool = False) -> None:
        super().__init__()
        self.module, self.world, self.sharded = module, world, sharded
        engine: nn.Module = module
        if not sharded:
            from torch.nn.parallel import DistributedDataParallel

            ids = [world.device.index] if world.device.type == "cuda" else None
            engine = DistributedDataParallel(module, device_ids=ids)
        self._engine = [engine]  # in a list: its parameters are module's
        self._first = next(
            (m, name)
            for m in module.modules()
            for name, p in m._parameters.items()
            if p is not None and p.requires_grad
        )
        self._register_state_dict_hook(_drop_prefix)
        self.register_load_state_dict_pre_hook(_add_prefix)

    def _elsewhere(self) -> bool:
        owner, name = self._first  # functional_call puts tensors in the place of parameters
        return not isinstance(owner._parameters[name], nn.Parameter)

    def forward(self, input: Tensor) -> Any:
        if self._elsewhere():
            if self.sharded:
                raise ZooError(
                    "this method evaluates the network at other parameters than its own, which needs whole "
                    "parameters; parallel: fsdp2 leaves each process a part. Take parallel: ddp"
                )
            return self.module(input)
        if not self.training:
            return self.module(input)
        if len(input) % self.world.size:
            raise ZooError(f"{len(input)} rows do not divide into {self.world.size} processes")
        rows = len(input) // self.world.size
        own = input[self.world.rank * rows : (self.world.rank + 1) * rows]
        engine = self._engine[0] if torch.is_grad_enabled() or self.sharded else self.module
        devices = [input.device] if input.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # masks differ between processes, what follows does not
            torch.manual_seed(torch.initial_seed() + 1 + self.world.rank)
            output = engine(own)
        if isinstance(output, tuple):
            return tuple(_Gather.apply(part) for part in output)
        return _Gather.apply(output)


def _drop_prefix(module: nn.Module, state: dict[str, Any], prefix: str, meta: Any) -> None:
    for key in [k for k in state if k.startswith(prefix + "module.")]:
        state[prefix + key.removeprefix(prefix + "module.")] = state.pop(key)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    own = {prefix + "module." + k for k in module.module.state_dict()}  # type: ignore[union-attr]
    for key in own:
        bare = prefix + key.removeprefix(prefix + "module.")
        if bare in state:
            state[key] = state.pop(bare)


def distribute(algorithm: Algorithm, world: World, parallel: str) -> Algorithm:
    """Divide the networks of an algorithm over the processes; before its optimizer is made.

    A pair of networks is divided network by network, since algorithms call them one by one.
    """
    if world.size == 1:
        return algorithm
    network = algorithm.trainable_module
    assert isinstance(network, nn.Module)
    sharded = parallel == "fsdp2"

    def share(net: nn.Module) -> Shared:
        if sharded:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(world.device.type, (world.size,))
            for child in _blocks(net):
                fully_shard(child, mesh=mesh)
            fully_shard(net, mesh=mesh)
        return Shared(net, world, sharded)

    if isinstance(network, Pair):
        network.nets = nn.ModuleList([share(net) for net in network.nets])
    else:
        algorithm.trainable_module = share(network)
    return algorithm


def _blocks(net: nn.Module) -> list[nn.Module]:
    """Direct children, or their members where a child is a list of stages, that own enough to be worth a gather."""
    found: list[nn.Module] = []
    for child in net.children():
        members = list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
        found += [m for m in members if sum(p.numel() for p in m.parameters()) >= 2**16]
    return found


def bare(network: nn.Module) -> nn.Module:
    """The network that is deployed: without division, the first of a pair, without a training-time head."""
    if isinstance(network, Shared):
        return bare(network.module)
    if isinstance(network, Pair):
        return bare(network.nets[0])
    inner = getattr(network, "model", None)
    return inner if type(network).__name__ == "CleanedNetwork" and isinstance(inner, nn.Module) else network


def whole(value: Any) -> Any:
    """Nested state with every sharded tensor put together; all processes take part."""
    if isinstance(value, dict):
        return {k: whole(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(v) for v in value)
    if isinstance(value, Tensor):
        return value.full_tensor() if hasattr(value, "full_tensor") else value.detach()
    return value


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor divided as ``target`` is; itself where it is divided, or the target is not or has another shape."""
    if hasattr(value, "full_tensor") or not hasattr(target, "full_tensor") or value.shape != target.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)  # type: ignore[attr-defined]
