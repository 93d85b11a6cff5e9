"""Norms against ``nn.BatchNorm2d`` and against the plain formulation of their papers, forward and backward, float32.

``official`` formulations are written from the equations, one tensor operation a term, as the released code has them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from common import interleave, main, row
from torch import Tensor, nn

import zoo
from zoo.registry.lookup import registry

SHAPE = (16, 64, 28, 28)
DIMS = (0, 2, 3)
AXIS = (1, -1, 1, 1)


def step(layer: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward with an upstream gradient that is not constant, on a leaf of its own."""
    leaf = x.clone().requires_grad_()
    with torch.no_grad():
        upstream = torch.randn_like(layer(x))

    def run() -> None:
        leaf.grad = None
        layer(leaf).backward(upstream)

    return run


class BatchRenorm(nn.Module):
    """mu, sigma, r, d and the running values, term by term."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("std", torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean(DIMS), x.std(DIMS, unbiased=False) + 1e-5
        r = (std.detach() / self.std).clamp(1 / 3, 3)
        d = ((mean.detach() - self.mean) / self.std).clamp(-5, 5)
        y = (x - mean.view(AXIS)) / std.view(AXIS) * r.view(AXIS) + d.view(AXIS)
        self.mean += 0.01 * (mean.detach() - self.mean)
        self.std += 0.01 * (std.detach() - self.std)
        return self.weight.view(AXIS) * y + self.bias.view(AXIS)


class EstimatedBatchNorm(BatchRenorm):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.std += 0.1 * ((x - self.mean.view(AXIS)).square().mean(DIMS) - self.std)
            self.mean += 0.1 * (x.mean(DIMS) - self.mean)
        y = (x - self.mean.clone().view(AXIS)) / (self.std.clone().view(AXIS) + 1e-5).sqrt()
        return self.weight.view(AXIS) * y + self.bias.view(AXIS)


class BatchChannelNorm(nn.Module):
    """Batch norm, then group norm with a gain per group, with views and means."""

    def __init__(self, c: int, groups: int = 32) -> None:
        super().__init__()
        self.bn, self.groups = nn.BatchNorm2d(c), groups
        self.weight, self.bias = nn.Parameter(torch.ones(1, groups, 1)), nn.Parameter(torch.zeros(1, groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x).view(len(x), self.groups, -1)
        mean, var = y.mean(2, keepdim=True), y.var(2, keepdim=True)
        return (self.weight * (y - mean) / (var + 1e-5).sqrt() + self.bias).view(x.shape)


class GhostBatchNorm(nn.Module):
    """One batch norm after the other over chunks of eight samples."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.bn(part) for part in x.split(8)])


class MeanOnlyBatchNorm(BatchRenorm):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(DIMS)
        self.mean += 0.1 * (mean.detach() - self.mean)
        return x - mean.view(AXIS) + self.bias.view(AXIS)


def positional(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()


def ada(x: Tensor) -> Tensor:
    mean, std = x.mean(1, keepdim=True), (x.var(1, keepdim=True) + 1e-5).sqrt()
    y = (x - mean) / std
    return (2.0 * (1 - 0.1 * y)).detach() * y


def actnorm(c: int) -> Callable[[Tensor], Tensor]:
    logs, bias = nn.Parameter(torch.zeros(c)), nn.Parameter(torch.zeros(c))
    return lambda x: (x + bias.view(AXIS)) * torch.exp(logs * 3).view(AXIS)


#: Own norms: arguments, and the formulation that they are measured against.
OWN: dict[str, tuple[dict[str, Any], Callable[[int], Callable[[Tensor], Tensor]] | None]] = {
    "batch_renorm": ({}, BatchRenorm),
    "estimated_batch_norm": ({}, EstimatedBatchNorm),
    "batch_channel_norm": ({}, BatchChannelNorm),
    "four_things_bn": ({"ghost_size": 8}, GhostBatchNorm),
    "moving_average_bn": ({}, None),
    "mean_only_batch_norm": ({}, MeanOnlyBatchNorm),
    "positional_norm": ({}, lambda c: positional),
    "ada_norm": ({}, lambda c: ada),
    "actnorm": ({}, actnorm),
    "streaming_norm": ({}, None),
}


def eager(rounds: int = 15) -> list[dict[str, Any]]:
    """Every own norm, contiguous and channels-last, against batch norm and its official form in the same rounds."""
    assert {
        n for n, m in registry().raw.methods.items() if m["kind"] == "norm" and m["target"].startswith("zoo.")
    } == set(OWN)
    rows = []
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for layout, fmt in layouts.items():
        x = torch.randn(SHAPE).contiguous(memory_format=fmt)
        for name, (arguments, official) in OWN.items():
            candidates = {
                "ours": step(zoo.create(name, SHAPE[1], **arguments), x),
                "bn": step(nn.BatchNorm2d(SHAPE[1]), x),
            }
            if official is not None and layout == "contiguous":
                candidates["official"] = step(official(SHAPE[1]), x)
            found = interleave(candidates, rounds)
            what = f"forward and backward, float32, {layout}, {'x'.join(map(str, SHAPE))}"
            rows.append(
                row(f"{name}, {layout}", what, found["ours"], found["bn"], 2.0, rounds, "nn.BatchNorm2d, training")
            )
            if "official" in found:
                rows.append(
                    row(
                        f"{name} against its terms",
                        what,
                        found["ours"],
                        found["official"],
                        1.0,
                        rounds,
                        "the paper's terms, one by one",
                    )
                )
    return rows


def compiled(rounds: int = 15) -> list[dict[str, Any]]:
    """Compiled norms against compiled batch norm; nothing where no C++ compiler is at hand."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return []
    rows, x = [], torch.randn(SHAPE)
    reference = torch.compile(nn.BatchNorm2d(SHAPE[1]), fullgraph=True)
    for name in ("batch_renorm", "estimated_batch_norm", "positional_norm"):
        ours = torch.compile(zoo.create(name, SHAPE[1]), fullgraph=True)
        found = interleave({"ours": step(ours, x), "bn": step(reference, x)}, rounds, warmup=3)
        what = f"compiled forward and backward, float32, {'x'.join(map(str, SHAPE))}"
        rows.append(
            row(f"{name}, compiled", what, found["ours"], found["bn"], 1.3, rounds, "compiled nn.BatchNorm2d, training")
        )
    return rows


def normalized_conv(rounds: int = 7) -> list[dict[str, Any]]:
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


def run() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    return [*eager(), *normalized_conv(), *compiled()]


if __name__ == "__main__":
    main("normalization", run)
