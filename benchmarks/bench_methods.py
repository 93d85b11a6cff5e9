"""First methods of each kind against the formulation that their papers' code uses, written out again from the equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from common import interleave, main, row
from torch import Tensor, nn

import zoo


def _step(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward on a leaf of its own."""
    leaf = x.clone().requires_grad_()

    def run() -> None:
        leaf.grad = None
        function(leaf).sum().backward()

    return run


def lans(rounds: int = 15) -> list[dict[str, Any]]:
    """One optimizer step over ResNet-50's parameters; gradients stay the same."""

    def stepper(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], None]:
        torch.manual_seed(0)
        parameters = [nn.Parameter(p.detach().clone()) for p in timm.create_model("resnet50").parameters()]
        for p in parameters:
            p.grad = torch.randn_like(p)
        optimizer = make(parameters)
        return lambda: optimizer.step() and None

    found = interleave(
        {
            "lans": stepper(lambda p: zoo.create("lans", p, lr=1e-3)),
            "adamw": stepper(lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True)),
            "lamb": stepper(lambda p: zoo.create("lamb", p, lr=1e-3)),
        },
        rounds,
    )
    reference = "torch.optim.AdamW(foreach=True)"
    return [
        row(
            "lans step, ResNet-50 parameters",
            "25.6 M values, 161 tensors",
            found["lans"],
            found["adamw"],
            1.2,
            rounds,
            reference,
        ),
        row(
            "lamb step, ResNet-50 parameters",
            "timm's, for comparison",
            found["lamb"],
            found["adamw"],
            None,
            rounds,
            reference,
        ),
    ]


def positional_norm(rounds: int = 25) -> list[dict[str, Any]]:
    """Forward and backward against mean, var, sqrt, subtract, divide as in the authors' PyTorch code."""

    def official(x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        std = x.var(dim=1, keepdim=True).add(1e-5).sqrt()
        return (x - mean) / std

    rows = []
    for shape in ((16, 64, 56, 56), (16, 256, 28, 28)):
        x = torch.randn(shape)
        layer = zoo.create("positional_norm", shape[1])
        found = interleave({"ours": _step(layer, x), "official": _step(official, x)}, rounds)
        name = f"positional_norm {'x'.join(map(str, shape))}"
        rows.append(
            row(
                name,
                "forward and backward, float32",
                found["ours"],
                found["official"],
                1.0,
                rounds,
                "mean, var, sqrt, sub, div",
            )
        )
    return rows


def isqrt_cov(rounds: int = 9) -> list[dict[str, Any]]:
    """Forward and backward against the authors' arrangement: a centring matrix of M x M for every sample, 3I - ZY by two
    products and a subtraction, the same five steps."""

    def official(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        m = h * w
        flat = x.reshape(n, c, m)
        centre = (torch.eye(m) / m - torch.ones(m, m) / m**2).repeat(n, 1, 1)
        sigma = flat.bmm(centre).bmm(flat.transpose(1, 2))
        trace = torch.diagonal(sigma, dim1=1, dim2=2).sum(1).view(n, 1, 1)
        a = sigma / trace
        three = 3.0 * torch.eye(c).repeat(n, 1, 1)
        y, z = a, torch.eye(c).repeat(n, 1, 1)
        for _ in range(5):
            t = 0.5 * (three - z.bmm(y))
            y, z = y.bmm(t), t.bmm(z)
        root = y * trace.sqrt()
        i, j = torch.triu_indices(c, c)
        return root[:, i, j]

    rows = []
    for shape in ((8, 128, 14, 14), (4, 64, 28, 28)):
        x = torch.randn(shape)
        layer = zoo.create("isqrt_cov", shape[1], reduction=None)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), official(x), atol=1e-3, rtol=1e-3)
        found = interleave({"ours": _step(layer, x), "official": _step(official, x)}, rounds)
        name = f"isqrt_cov {'x'.join(map(str, shape))}"
        rows.append(
            row(
                name,
                "forward and backward, float32, 5 steps",
                found["ours"],
                found["official"],
                1.0,
                rounds,
                "centring matrix, autograd",
            )
        )
    return rows


def run() -> list[dict[str, Any]]:
    return [*lans(), *positional_norm(), *isqrt_cov()]


if __name__ == "__main__":
    main("methods", run)
