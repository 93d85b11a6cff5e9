"""FReLU, DRConv, convolution as matrix products, and i-RevNet: time and memory against plain formulations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from common import interleave, main, peak_megabytes, row
from torch import Tensor, nn

import zoo


def _step(module: nn.Module | Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    leaf = x.clone().requires_grad_()
    grad = torch.randn_like(module(x))

    def run() -> None:
        leaf.grad = None
        module(leaf).backward(grad)

    return run


class _Composition(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.window = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.norm(self.window(x)))


def frelu(rounds: int = 15) -> list[dict[str, Any]]:
    x = torch.randn(16, 64, 56, 56)
    torch._dynamo.reset()
    plain, ours = _Composition(64), zoo.create("frelu", 64)
    runs = {
        "ours": _step(ours, x),
        "plain": _step(plain, x),
        "ours compiled": _step(torch.compile(ours, fullgraph=True), x),
        "plain compiled": _step(torch.compile(plain, fullgraph=True), x),
    }
    times = interleave(runs, rounds)
    peaks = {name: peak_megabytes(function) for name, function in runs.items()}
    rows = []
    for mode, how in (("", "eager"), (" compiled", "both under torch.compile")):
        what, a, b = f"16x64x56x56, forward and backward in training, {how}", f"ours{mode}", f"plain{mode}"
        reference = "convolution, BatchNorm, maximum"
        rows += [
            row(f"frelu train, time{mode}", what, times[a], times[b], 0.7, rounds, reference),
            row(f"frelu train, memory{mode}", what, peaks[a], peaks[b], 0.7, 1, reference, "MB"),
        ]
    return rows


def region_conv(rounds: int = 15) -> list[dict[str, Any]]:
    def loop(layer: nn.Module, x: Tensor) -> Tensor:
        filters, soft = layer.filters(x), layer.guide(x).softmax(1)
        hard = F.one_hot(soft.argmax(1), soft.shape[1]).movedim(-1, 1).to(soft.dtype)
        choice = hard - soft.detach() + soft
        y: Tensor | int = 0
        for t in range(soft.shape[1]):
            maps = [F.conv2d(v[None], w, None, 1, layer.guide.padding) for v, w in zip(x, filters[:, t], strict=True)]
            y = y + choice[:, t : t + 1] * torch.cat(maps)
        return y + layer.bias.view(-1, 1, 1)

    rows = []
    for kernel in (1, 3):
        layer = zoo.create("dynamic_region_conv", 64, 64, kernel, padding=kernel // 2)
        x = torch.randn(8, 64, 28, 28)
        torch.testing.assert_close(layer(x), loop(layer, x), atol=1e-4, rtol=1e-4)

        def forward(function: Callable[[Tensor], Tensor], x: Tensor = x) -> Callable[[], None]:
            def run() -> None:
                with torch.no_grad():
                    function(x)

            return run

        def looped(v: Tensor, layer: nn.Module = layer) -> Tensor:
            return loop(layer, v)

        runs = {"step": _step(layer, x), "step loop": _step(looped, x)}
        runs |= {"forward": forward(layer), "forward loop": forward(looped)}
        found = interleave(runs, rounds)
        what = f"8x64x28x28, kernel {kernel}, 8 regions"
        against = "one convolution a region and image, weighted by the choice"
        for part, label in (
            ("forward", "forward, no gradients"),
            # 1 + 2 + m products against the loop's 3 m, m = 8, and the generator of the filters in both
            (
                "step",
                "forward and backward; the guide's exact gradient needs every region's response: 11 products of 24, 0.46 of the arithmetic",
            ),
        ):
            rows.append(
                row(
                    f"dynamic_region_conv {kernel}x{kernel}, {part}",
                    f"{what}, {label}",
                    found[part],
                    found[f"{part} loop"],
                    0.5,
                    rounds,
                    against,
                )
            )
    return rows


def matrix_forms(rounds: int = 9) -> list[dict[str, Any]]:
    """Forward pass of one 3 x 3 convolution by each algorithm; a table, no targets: the native one is faster."""
    x = torch.randn(1, 64, 56, 56)
    layers: dict[str, nn.Module] = {"native": nn.Conv2d(64, 64, 3, padding=1)}
    for name in ("im2col", "im2row", "shifted", "indirect"):
        layers[name] = zoo.create("im2col_conv", 64, 64, 3, padding=1, algorithm=name)

    def forward(layer: nn.Module) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                layer(x)

        return run

    runs = {name: forward(layer) for name, layer in layers.items()}
    times = interleave(runs, rounds)
    peaks = {name: peak_megabytes(function) for name, function in runs.items()}
    what, rows = "1x64x56x56 to 64 channels, 3 x 3, forward", []
    for name in list(layers)[1:]:
        rows += [
            row(f"im2col_conv {name}, time", what, times[name], times["native"], None, rounds, "nn.Conv2d"),
            row(f"im2col_conv {name}, memory", what, peaks[name], peaks["native"], None, 1, "nn.Conv2d", "MB"),
        ]
    return rows


def reversible() -> list[dict[str, Any]]:
    """One training step of 18 blocks of three convolutions, with gradients of parameters allocated before."""
    x = torch.randn(8, 3, 96, 96)
    depth = {"num_classes": 10, "depths": (6, 6, 6), "strides": (2, 2, 2)}
    models = {
        "ours": zoo.create("i_revnet", **depth, memory_saving=True),
        "autograd": zoo.create("i_revnet", **depth),
        "resnet": timm.create_model("resnet50", num_classes=10, layers=(3, 4, 8, 3)),
    }

    def step(model: nn.Module) -> Callable[[], None]:
        def run() -> None:
            model.zero_grad(set_to_none=False)
            model(x).sum().backward()

        return run

    peaks = {name: peak_megabytes(step(model)) for name, model in models.items()}
    what = "8x3x96x96, 18 blocks of three convolutions, one training step, memory beyond parameters and their gradients"
    against = {"resnet": "timm ResNet of 18 bottleneck blocks", "autograd": "the same network by autograd"}
    return [
        row("i_revnet train, memory", what, peaks["ours"], peaks["resnet"], 0.35, 1, against["resnet"], "MB"),
        row(
            "i_revnet train, memory_saving", what, peaks["ours"], peaks["autograd"], None, 1, against["autograd"], "MB"
        ),
    ]


def run() -> list[dict[str, Any]]:
    return [*frelu(), *region_conv(), *matrix_forms(), *reversible()]


if __name__ == "__main__":
    main("convolution", run)
