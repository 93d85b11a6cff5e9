"""The training loop against a bare one; meta-learning steps against the unrolled form; losses against cross-entropy.

A bare loop is what one would write by hand for the same work: the same batches, the same network, optimizer and
schedule, nothing recorded, nothing seeded.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import interleave, main, row
from torch import Tensor, nn
from torch.func import functional_call

import zoo
from zoo.ensembles.deep_ensembles import DeepEnsemble
from zoo.models.resnet import resnet8
from zoo.training.distributed import World
from zoo.training.engine import Engine
from zoo.training.progress import Progress
from zoo.training.recipe import load

CPU = torch.device("cpu")
RECIPE: dict[str, Any] = {
    "model": {"name": "zoo.models.resnet:resnet8"},
    "data": {"name": "digits", "test": 300, "validation": 0},
    "noise": {"name": "symmetric_exclusive", "rate": 0.4},
    "optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9}},
    "epochs": 1000,
    "batch": 128,
}


def loop(rounds: int = 41) -> list[dict[str, Any]]:
    """One epoch (11 steps) of ResNet-8 on digits: the engine's loop, without evaluation, and the same by hand.

    They take turns after every step, so that both see the same machine, and what counts is processor time: one thread that
    never waits.
    """
    engine = Engine(load(RECIPE), None, World(0, 1, CPU))
    data, bar = engine.data, Progress("", 1, 0, show=False)
    torch.manual_seed(0)
    net = resnet8(in_chans=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def bare() -> Iterator[None]:
        while True:
            net.train()
            order = torch.randperm(len(data.train))
            for i in range(len(data.train) // 128):
                index = order[128 * i : 128 * (i + 1)]
                x = (data.train.images[index] - data.mean) / data.std
                loss = F.cross_entropy(net(x), data.train.labels[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                yield

    by_hand, spent = bare(), [0.0]

    def turn(_: int) -> None:
        started = time.process_time()
        next(by_hand)
        spent[0] += time.process_time() - started

    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for i in range(rounds + 2):
        spent[0], started = 0.0, time.process_time()
        engine._epoch(engine.step // engine.batches, turn, bar)
        whole = time.process_time() - started
        if i >= 2:
            times["ours"].append((whole - spent[0]) * 1e3)
            times["bare"].append(spent[0] * 1e3)
    found = {name: statistics.median(values) for name, values in times.items()}
    what = "ResNet-8, digits, batch 128, 11 steps, cross-entropy with suspects recorded; processor time"
    reference = "bare PyTorch loop"
    return [row("training loop, one epoch", what, found["ours"], found["bare"], 1.03, rounds, reference)]


def _network(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    net = resnet8(in_chans=channels)
    zoo.swap(net, norm={"group_norm": {"num_groups": 8}})
    return net


def _batch(n: int, seed: int, channels: int = 1, side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, side, side, generator=generator), torch.randint(10, (n,), generator=generator)


def _per_sample(net: nn.Module, params: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(functional_call(net, dict(params), (x,)), y, reduction="none")


def reweight(rounds: int = 21) -> list[dict[str, Any]]:
    """A step of L2RW against differentiating through a virtual step with a second graph.

    Counted in forward passes of the batch (a backward pass is two), L2RW takes 2.3 for the clean gradient of 100 samples,
    one pass forward, one back to the activations, one for the slopes, and at most one for the weighted gradient, of which
    samples without weight have no part: 6 in all. The unrolled form takes 3 for the virtual step, 2.3 for the clean batch, 2
    or more for the second derivative and 3 for the weighted step, some 10, and the small kernels of a second graph. With
    BatchNorm, whose samples see each other, L2RW goes by forward mode: 2.3 + 3 + 3. In maps as small as 8x8 a call costs more
    than its arithmetic, and of calls to convolution kernels there are 53 against 88.
    """
    rows = []
    for channels, side in ((1, 8), (3, 32)):
        (x, y), clean = _batch(128, 1, channels, side), _batch(100, 2, channels, side)
        net = _network(channels)
        by_layer, forward_mode = (
            zoo.create("learning_to_reweight", copy.deepcopy(net), layerwise=way) for way in (True, False)
        )
        other = copy.deepcopy(net)

        def step(algorithm: nn.Module, batch: Any, clean: Any) -> None:
            algorithm(*batch, meta_batch=clean)["loss"].backward()

        def unrolled(net: nn.Module, x: Tensor, y: Tensor, clean: Any) -> None:
            params = dict(net.named_parameters())
            eps = torch.zeros(len(x), requires_grad=True)
            loss = (eps * _per_sample(net, params, x, y)).sum()
            slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            moved = {n: p - 0.05 * g for (n, p), g in zip(params.items(), slopes, strict=True)}
            (g,) = torch.autograd.grad(_per_sample(net, moved, *clean).mean(), eps)
            w = (-g).clamp_min(0)
            ((w / w.sum().clamp_min(1e-12)) * F.cross_entropy(net(x), y, reduction="none")).sum().backward()

        found = interleave(
            {
                "by layer": partial(step, by_layer, (x, y), clean),
                "forward mode": partial(step, forward_mode, (x, y), clean),
                "unrolled": partial(unrolled, other, x, y, clean),
            },
            rounds,
        )
        what = f"ResNet-8 with GroupNorm, {side}x{side}, batch 128, 100 clean samples"
        ref = "unrolled virtual step with create_graph"
        forward = f"{what}; forward mode, as with BatchNorm"
        rows += [
            row("learning_to_reweight step", what, found["by layer"], found["unrolled"], 0.5, rounds, ref),
            row("learning_to_reweight step", forward, found["forward mode"], found["unrolled"], None, rounds, ref),
        ]
    return rows


def meta(rounds: int = 21) -> list[dict[str, Any]]:
    """A step of Meta-Weight-Net against the official approach: one pass, layer by layer, serves virtual step, slopes and real step.

    With BatchNorm, whose samples see each other, it goes by forward mode: virtual and real step share the first pass.
    """
    (x, y), clean = _batch(128, 1), _batch(100, 2)
    net = _network()
    by_layer, forward_mode = (zoo.create("meta_weight_net", copy.deepcopy(net), layerwise=way) for way in (True, False))
    rebuilt, weight_net = copy.deepcopy(net), copy.deepcopy(by_layer.weight_net)
    adam = torch.optim.Adam(weight_net.parameters(), 1e-3, weight_decay=1e-4)

    def step(algorithm: nn.Module) -> None:
        algorithm(x, y, meta_batch=clean, lr=0.05)["loss"].backward()

    def official() -> None:  # a meta model is built for every batch, stepped virtually, and differentiated twice
        model = _network()
        model.load_state_dict(rebuilt.state_dict())
        params = dict(model.named_parameters())
        losses = _per_sample(model, params, x, y)
        loss = (weight_net(losses.detach()) * losses).mean()
        slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        moved = {n: p - 0.05 * g for (n, p), g in zip(params.items(), slopes, strict=True)}
        adam.zero_grad()
        _per_sample(model, moved, *clean).mean().backward()
        adam.step()
        losses = F.cross_entropy(rebuilt(x), y, reduction="none")
        with torch.no_grad():
            weights = weight_net(losses)
        (weights * losses).mean().backward()

    found = interleave(
        {"by layer": partial(step, by_layer), "forward mode": partial(step, forward_mode), "official": official}, rounds
    )
    what, ref = (
        "ResNet-8 with GroupNorm, batch 128, 100 clean samples",
        "meta model rebuilt a batch, second-order graph",
    )
    forward = f"{what}; forward mode, as with BatchNorm"
    return [
        row("meta_weight_net step", what, found["by layer"], found["official"], 0.7, rounds, ref),
        row("meta_weight_net step", forward, found["forward mode"], found["official"], None, rounds, ref),
    ]


def losses(rounds: int = 25) -> list[dict[str, Any]]:
    """Forward and backward of closed-gradient losses at 1,000 classes against cross-entropy, uncompiled."""
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(512, 1000, generator=generator), torch.randint(1000, (512,), generator=generator)

    def step(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        leaf = logits.clone().requires_grad_()

        def run() -> None:
            leaf.grad = None
            loss(leaf, y).backward()

        return run

    names = ("imae", "derivative_manipulation", "gce", "mae_loss", "label_smoothing")
    found = interleave({"ce": step(F.cross_entropy), **{n: step(zoo.create(n)) for n in names}}, rounds)
    compiled = {n: step(torch.compile(zoo.create(n), fullgraph=True)) for n in names}
    fused = interleave({"ce": step(torch.compile(F.cross_entropy, fullgraph=True)), **compiled}, rounds, warmup=4)
    what = "512 x 1,000 logits, forward and backward"
    rows = [row(f"{n}, eager", what, found[n], found["ce"], None, rounds, "F.cross_entropy, eager") for n in names]
    return rows + [row(f"{n}, compiled", what, fused[n], fused["ce"], 1.1, rounds, "F.cross_entropy, compiled") for n in names]  # fmt: skip


def ensemble(rounds: int = 101) -> list[dict[str, Any]]:
    """A training step of eight small networks as stacked parameters, against a loop over networks and optimizers."""
    x, y = _batch(64, 3)
    x = x.flatten(1)

    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))

    def sgd(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    task = DeepEnsemble(members=[make(i) for i in range(8)], vmapped=True)
    nets = [make(i) for i in range(8)]
    one, each = sgd(task.trainable_module), [sgd(net) for net in nets]

    def together(step: bool = True) -> None:
        one.zero_grad()
        task(x, y)["loss"].backward()
        if step:
            one.step()

    def in_turn(step: bool = True) -> None:
        for net, optimizer in zip(nets, each, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            if step:
                optimizer.step()

    found = interleave({
        "vmap": together, "loop": in_turn, "vmap gradient": lambda: together(False), "loop gradient": lambda: in_turn(False),
    }, rounds)  # fmt: skip
    name, what = "ensemble of 8 networks, vmapped", "MLP 64-32-10, batch 64, "
    step, gradient = what + "SGD with momentum", what + "gradients only"
    return [
        row(f"{name}, step", step, found["vmap"], found["loop"], 0.5, rounds, "loop over networks and optimizers"),
        row(f"{name}, gradients", gradient, found["vmap gradient"], found["loop gradient"], None, rounds, "loop over networks"),
    ]  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("training", lambda: [*loop(), *reweight(), *meta(), *losses(), *ensemble()])
