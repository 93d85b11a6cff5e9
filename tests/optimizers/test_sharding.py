"""Two gloo processes: each optimizer under FSDP2 takes the path of one process, and a shard-local norm does not."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from timm.optim import Lamb, Lars
from torch import nn

from zoo.normalization.riemannian_bn import SGDG, AdamG
from zoo.optimizers.adabound import AdaBound, AMSBound
from zoo.optimizers.adax import AdaX, AdaXW
from zoo.optimizers.lans import LANS


class LocalRatio(torch.optim.Optimizer):
    """The mistake: the trust ratio of the local shard. The test has to see it."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            w, g = (t.to_local() if hasattr(t, "to_local") else t for t in (p, p.grad))
            if w.numel():
                w.sub_(g * (0.1 * w.norm() / g.norm().clamp_min(1e-12)))


def grassmann(make, params):
    """The first weight on the manifold, where the orthogonality term looks at all rows together."""
    first, *others = params
    return make([{"params": [first], "grassmann": True, "lr": 0.1}, {"params": others}])


OPTIMIZERS = {
    "lans": LANS, "adax": AdaX, "adax_w": AdaXW, "adabound": AdaBound, "amsbound": AMSBound,
    "lamb": lambda ps: Lamb(ps, max_grad_norm=None),
    "lars": lambda ps: Lars(ps, lr=1.0, momentum=0.9, weight_decay=1e-4),
    "riemannian_bn": lambda ps: grassmann(SGDG, ps),
    "adam_g": lambda ps: grassmann(AdamG, ps),
    "local": LocalRatio,
}  # fmt: skip


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(13, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 5)
    ).double()  # uneven and tiny shards


def train(net: nn.Module, make, rows: slice) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    optimizer = make(net.parameters())
    for _ in range(4):
        x, y = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (13, 5))
        optimizer.zero_grad()
        (net(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in net.parameters()]


def worker(rank: int, port: int, found) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        for name, make in OPTIMIZERS.items():
            whole = train(model(), make, slice(None))
            sharded = model()
            fully_shard(sharded, mesh=mesh)
            ends = train(sharded, make, slice(4 * rank, 4 * rank + 4))
            if rank == 0:
                found[name] = max(float((a - b).abs().max()) for a, b in zip(whole, ends, strict=True))
    finally:
        dist.destroy_process_group()


def test_every_optimizer_is_tried():
    """``shard_safe: true`` in the registry means that it is in the list above."""
    from zoo.registry.lookup import registry

    safe = {n for n, m in registry().raw.methods.items() if m["kind"] == "optimizer" and m.get("shard_safe")}
    assert safe == set(OPTIMIZERS) - {"local"}


@pytest.mark.slow
def test_sharded_path_is_the_whole_path():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mp.Manager() as manager:
        found = manager.dict()
        mp.spawn(worker, args=(port, found), nprocs=2)
        errors = dict(found)
    blind = errors.pop("local")
    assert blind > 1e-4, "the negative control went unnoticed"
    assert {name: e for name, e in errors.items() if not e < 1e-12} == {}
