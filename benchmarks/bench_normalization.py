"""Norms against ``nn.BatchNorm2d`` and against the plain formulation of their papers: forward and backward, time and memory.

``official`` formulations (``norm_terms.py``) are written from the equations, one tensor operation a term. The
upstream gradient is a tensor of its own in every row: that of a sum is one number in disguise, which some layers get cheaper.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from common import interleave, main, peak_megabytes, row
from norm_terms import (
    BatchChannelNorm,
    BatchRenorm,
    EstimatedBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    MovingAverage,
    Streaming,
    actnorm,
    ada,
    positional,
)
from torch import Tensor, nn

import zoo
from zoo.registry.lookup import registry

SHAPE = (16, 64, 28, 28)
WHAT = "x".join(map(str, SHAPE))


def step(layer: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward with an upstream gradient that is not constant, on a leaf of its own."""
    leaf = x.clone().requires_grad_()
    with torch.no_grad():
        upstream = torch.randn_like(layer(x))

    def run() -> None:
        leaf.grad = None
        layer(leaf).backward(upstream)

    return run


#: Own norms: arguments, and the formulation that they are measured against.
OWN: dict[str, tuple[dict[str, Any], Callable[[int], Callable[[Tensor], Tensor]]]] = {
    "batch_renorm": ({}, BatchRenorm),
    "estimated_batch_norm": ({}, EstimatedBatchNorm),
    "batch_channel_norm": ({}, BatchChannelNorm),
    "four_things_bn": ({"ghost_size": 8}, GhostBatchNorm),
    "moving_average_bn": ({}, MovingAverage),
    "mean_only_batch_norm": ({}, MeanOnlyBatchNorm),
    "positional_norm": ({}, lambda c: positional),
    "ada_norm": ({}, lambda c: ada),
    "actnorm": ({}, actnorm),
    "streaming_norm": ({}, Streaming),
}


#: Norms whose kernels are torch's or timm's: their cost stands in the same table, without a target.
BORROWED = ("group_norm", "layer_norm", "layer_norm_all", "layer_norm_simple", "instance_norm")
#: Targets that some miss, and why: (end of the row's name) -> reason.
WHY = {
    "batch_channel_norm, channels_last": "per-sample sums have no kernel in this order: 8 passes over the data against "
    "batch norm's 5 (moments 2, affine 1, product and sums 3, gradient 2, each of these reading what the one before wrote), "
    "and some 60 operations on (N, C) numbers",
    "four_things_bn, channels_last": "ghost batches have no view in this order: 8 passes over the data against batch "
    "norm's 5, as for batch_channel_norm",
    "batch_channel_norm, bfloat16": "6 passes over the data against batch norm's 5, the last of them a product that rounds "
    "as it goes, and some 60 operations on (N, C) numbers, 5 to 10 us each between passes that empty the caches",
    "moving_average_bn, bfloat16": "6 passes over the data against batch norm's 5: the moving statistic is known only after "
    "the sums, so the gradient is an affine map of the input and a product added to it; some 40 operations on (C,) numbers",
    "streaming_norm, bfloat16": "6 passes over the data against batch norm's 5, as for moving_average_bn, and some 50 "
    "operations on (C,) numbers",
    "positional_norm, bfloat16": "batch norm's kernels with positions as channels, a call a sample, which read rows of "
    "coefficients where batch norm has one number. Blocks of samples in one call took as long, with their copies, and twice "
    "the memory",
    "ada_norm, bfloat16": "positional_norm is part of it, and that alone takes 2.0 times batch norm's time: kernels for one "
    "sample's map at a time, in the slower of their two orders; damping adds a product on either way, 0.2 each",
    ", channels_last": "batch norm's kernel for this order is twice as fast as for the other",
}


def missed(found: dict[str, Any]) -> dict[str, Any]:
    """A row that says why where it misses its target."""
    reason = next((why for end, why in WHY.items() if found["name"].endswith(end)), "")
    return {**found, "what": f"{found['what']}; {reason}"} if found["met"] is False and reason else found


def eager(rounds: int = 31) -> list[dict[str, Any]]:
    """Every own norm, contiguous and channels-last, against batch norm and its official form in the same rounds."""
    methods = registry().raw.methods.items()
    own = {n for n, m in methods if m["kind"] == "norm" and m["target"].startswith("zoo.")}
    assert own - set(BORROWED) == set(OWN)
    rows = []
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for layout, fmt in layouts.items():
        x = torch.randn(SHAPE).contiguous(memory_format=fmt)
        for name, (arguments, official) in OWN.items():
            candidates = {
                "ours": step(zoo.create(name, SHAPE[1], **arguments), x),
                "bn": step(nn.BatchNorm2d(SHAPE[1]), x),
            }
            if layout == "contiguous":
                candidates["official"] = step(official(SHAPE[1]), x)
            found = interleave(candidates, rounds)
            what = f"forward and backward, float32, {layout}, {WHAT}"
            rows.append(
                missed(
                    row(f"{name}, {layout}", what, found["ours"], found["bn"], 2.0, rounds, "nn.BatchNorm2d, training")
                )
            )
            if "official" in found:
                terms = "the paper's terms, one by one"
                rows.append(
                    row(f"{name} against its terms", what, found["ours"], found["official"], 1.0, rounds, terms)
                )
    x = torch.randn(SHAPE)
    for name in BORROWED:
        found = interleave(
            {"ours": step(zoo.create(name, SHAPE[1]), x), "bn": step(nn.BatchNorm2d(SHAPE[1]), x)}, rounds
        )
        what = f"forward and backward, float32, contiguous, {WHAT}"
        rows.append(
            row(f"{name}, contiguous", what, found["ours"], found["bn"], None, rounds, "nn.BatchNorm2d, training")
        )
    return rows


def bfloat16(rounds: int = 31) -> list[dict[str, Any]]:
    """The whole layer in bfloat16; statistics are taken in float32 by all of them."""
    rows, x = [], torch.randn(SHAPE).bfloat16()
    what = f"forward and backward, bfloat16, contiguous, {WHAT}"
    for name, (arguments, _) in OWN.items():
        ours, bn = zoo.create(name, SHAPE[1], **arguments).bfloat16(), nn.BatchNorm2d(SHAPE[1]).bfloat16()
        found = interleave({"ours": step(ours, x), "bn": step(bn, x)}, rounds)
        reference = "nn.BatchNorm2d in bfloat16, training"
        rows.append(missed(row(f"{name}, bfloat16", what, found["ours"], found["bn"], 2.0, rounds, reference)))
    return rows


def memory() -> list[dict[str, Any]]:
    """Most memory held at once by forward and backward, against batch norm's and one activation more."""
    x = torch.randn(SHAPE)
    allowed = peak_megabytes(step(nn.BatchNorm2d(SHAPE[1]), x)) + x.nbytes / 1e6
    what = f"peak of forward and backward, float32, contiguous, {WHAT}"
    reference = "nn.BatchNorm2d, training, plus one activation"
    rows = []
    for name, (arguments, _) in OWN.items():
        ours = peak_megabytes(step(zoo.create(name, SHAPE[1], **arguments), x))
        rows.append(missed(row(f"{name}, peak memory", what, ours, allowed, 1.0, 1, reference, unit="MB")))
    return rows


def compiled(rounds: int = 31) -> list[dict[str, Any]]:
    """Compiled norms against compiled batch norm; nothing where no C++ compiler is at hand."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        return []
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x, kind = torch.randn(SHAPE).to(dtype), str(dtype).removeprefix("torch.")
        reference = torch.compile(nn.BatchNorm2d(SHAPE[1]).to(dtype), fullgraph=True)
        what, against = f"compiled forward and backward, {kind}, {WHAT}", "compiled nn.BatchNorm2d, training"
        for name, (arguments, _) in OWN.items():
            ours = torch.compile(zoo.create(name, SHAPE[1], **arguments).to(dtype), fullgraph=True)
            found = interleave({"ours": step(ours, x), "bn": step(reference, x)}, rounds, warmup=4)
            end = "" if dtype is torch.float32 else f", {kind}"
            rows.append(row(f"{name}, compiled{end}", what, found["ours"], found["bn"], 1.3, rounds, against))
    return rows


def normalized_conv(rounds: int = 15) -> list[dict[str, Any]]:
    """Against patches unfolded, standardised and multiplied, and against one plain convolution."""
    x = torch.randn(8, 64, 28, 28)
    ours = zoo.create("normalized_conv", 64, 64, 3, padding=1)
    plain = nn.Conv2d(64, 64, 3, padding=1)

    def unfold(x: Tensor) -> Tensor:
        patches = F.unfold(x, 3, padding=1)
        patches = (patches - patches.mean(1, keepdim=True)) / (
            patches.var(1, keepdim=True, unbiased=False) + ours.eps
        ).sqrt()
        return (ours.weight.flatten(1) @ patches).view(len(x), -1, *x.shape[2:])

    found = interleave({"ours": step(ours, x), "unfold": step(unfold, x), "plain": step(plain, x)}, rounds)
    what = "forward and backward, float32, 8x64x28x28, 64 filters 3x3"
    return [
        row(
            "normalized_conv against unfold",
            what,
            found["ours"],
            found["unfold"],
            0.2,
            rounds,
            "unfold, standardise, multiply",
        ),
        row("normalized_conv against one convolution", what, found["ours"], found["plain"], 3.5, rounds, "nn.Conv2d"),
    ]


def cosine(rounds: int = 31) -> list[dict[str, Any]]:
    """Cosine normalization: both factors made unit vectors first, as the equation has it."""
    x, maps = torch.randn(256, 512), torch.randn(8, 64, 28, 28)
    linear, conv = (
        zoo.create("cosine_linear", 512, 512, bias=False),
        zoo.create("cosine_norm", 64, 64, 3, padding=1, bias=False),
    )

    def terms(x: Tensor) -> Tensor:
        return (x / (x * x).sum(1, keepdim=True).sqrt()) @ (
            linear.weight / (linear.weight**2).sum(1, keepdim=True).sqrt()
        ).T

    def unfold(x: Tensor) -> Tensor:
        patches, w = F.unfold(x, 3, padding=1), conv.weight.flatten(1)
        patches = patches / (patches.square().sum(1, keepdim=True) + conv.eps**2).sqrt()
        return (w / w.square().sum(1, keepdim=True).sqrt() @ patches).view(len(x), -1, *x.shape[2:])

    rows = []
    for name, layer, official, given, what in (
        ("cosine_linear", linear, terms, x, "256x512, 512 units"),
        ("cosine_norm", conv, unfold, maps, "8x64x28x28, 64 filters 3x3"),
    ):
        found = interleave({"ours": step(layer, given), "official": step(official, given)}, rounds)
        against = "unit vectors, then the product"
        what = f"forward and backward, float32, {what}"
        rows.append(row(f"{name} against its terms", what, found["ours"], found["official"], 1.0, rounds, against))
    return rows


def recurrent(rounds: int = 25, steps: int = 24, batch: int = 32, size: int = 64) -> list[dict[str, Any]]:
    """LSTMs with batch norm against loops that call one batch norm a term and step."""
    x = torch.randn(steps, batch, size)
    w, u = (nn.Parameter(torch.randn(4 * size, size) * 0.1) for _ in range(2))
    bias, gamma, cell_gamma = (nn.Parameter(torch.full((n * size,), 0.1)) for n in (4, 4, 1))
    shift = nn.Parameter(torch.zeros(size))

    running = {
        name: (torch.zeros(steps, n * size), torch.ones(steps, n * size)) for name, n in (("x", 4), ("h", 4), ("c", 1))
    }

    def bn(term: str, t: int, a: Tensor, gain: Tensor, offset: Tensor | None = None) -> Tensor:
        mean, var = running[term]  # evaluation needs those of every step
        return F.batch_norm(a, mean[t], var[t], gain, offset, True)

    def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = gates.chunk(4, 1)
        return f.sigmoid() * c + i.sigmoid() * g.tanh(), o.sigmoid()

    def every_step(x: Tensor) -> Tensor:
        h, c, out = torch.zeros(batch, size), torch.zeros(batch, size), []
        for t, step_input in enumerate(x):
            c, o = cell(bn("h", t, h @ u.T, gamma) + bn("x", t, step_input @ w.T, gamma) + bias, c)
            h = o * bn("c", t, c, cell_gamma, shift).tanh()
            out.append(h)
        return torch.stack(out)

    def frame_wise(x: Tensor) -> Tensor:
        h, c, out = torch.zeros(batch, size), torch.zeros(batch, size), []
        for t, step_input in enumerate(x):
            c, o = cell(h @ u.T + bn("x", t, step_input @ w.T, gamma, bias), c)
            h = o * c.tanh()
            out.append(h)
        return torch.stack(out)

    rows = []
    for name, arguments, official in (
        ("recurrent_batch_norm", {}, every_step),
        ("batch_norm_rnn", {"statistics": "frame"}, frame_wise),
    ):
        layer = zoo.create(name, size, size, **arguments)
        found = interleave({"ours": step(lambda x: layer(x)[0], x), "official": step(official, x)}, rounds)  # noqa: B023
        what = f"forward and backward, float32, {steps} steps, batch {batch}, {size} units"
        against = "one batch norm a term and step"
        rows.append(row(f"{name} against its terms", what, found["ours"], found["official"], 1.0, rounds, against))
    return rows


def run() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    # glibc hands freed memory back to the system, page by page at the next use, until it has seen a larger block freed;
    # in a training process it has. Without this, rows would count page faults.
    torch.empty(7_000_000)
    return [*eager(), *bfloat16(), *normalized_conv(), *cosine(), *recurrent(), *memory(), *compiled()]


if __name__ == "__main__":
    main("normalization", run)
