"""Half precision by blocks of samples: every block, its gradients, and what the kernels leave to plain operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.normalization import _positions
from zoo.normalization.ada_norm import AdaNorm2d
from zoo.normalization.positional_norm import PositionalNorm, positional_norm

#: Samples with 4800 positions: five of them make blocks of two, two and one.
SIZE = (6, 60, 80)
LAYERS = [
    PositionalNorm(6),
    PositionalNorm(6, 0.5, unbiased=False),
    AdaNorm2d(6),
    AdaNorm2d(6, 1.5, 0.3, 0.5, unbiased=True),
]


def both(samples: int, size: tuple[int, ...] = SIZE, offset: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """An input and the same in float64, and a gradient that goes with the input."""
    x = (torch.randn(samples, *size) * 2 + offset).bfloat16()
    dy = (torch.randn(x.shape) + 0.3 * (x - offset)).bfloat16()
    return x.requires_grad_(), x.detach().double().requires_grad_(), dy


def near(received: Tensor, expected: Tensor, share: float) -> bool:
    error = (received.double() - expected.double()).abs().max()
    return bool(error <= share * expected.double().abs().max())


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@pytest.mark.parametrize(("samples", "offset"), [(1, 0.0), (5, 0.0), (7, 10.0)])
def test_every_block_is_float64_but_for_its_rounding(layer: torch.nn.Module, samples: int, offset: float) -> None:
    x, exact, dy = both(samples, offset=offset)
    assert _positions.by_kernel(x)
    y, wanted = layer(x), layer(exact)
    y.backward(dy)
    wanted.backward(dy.double())
    for n in range(samples):  # each on its own: a block in the wrong place would show
        assert near(y[n], wanted[n], 2**-7)
        assert near(x.grad[n], exact.grad[n], 2**-7)


@pytest.mark.parametrize("use", ["mean", "std", "both and y"])
def test_moments_pass_gradients_on(use: str) -> None:
    x, exact, dy = both(5)
    for given in (x, exact):
        y, mean, std = positional_norm(given)
        assert mean.dtype is std.dtype is (torch.float32 if given is x else torch.float64)
        loss = {"mean": mean.square().sum(), "std": std.log().sum()}
        (loss[use] if use in loss else sum(loss.values()) + (y * dy.to(y.dtype)).sum()).backward()
    assert near(mean, exact.mean(1, keepdim=True), 1e-6)
    assert near(std, (exact.var(1, keepdim=True) + 1e-5).sqrt(), 1e-6)
    assert near(x.grad, exact.grad, 2**-6)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_second_derivatives_and_batched_gradients(layer: torch.nn.Module) -> None:
    x, exact, dy = both(3)
    found = []
    for given in (x, exact):
        (first,) = torch.autograd.grad(layer(given), given, dy.to(given.dtype), create_graph=True)
        (second,) = torch.autograd.grad(first.float().square().sum() if given is x else first.square().sum(), given)
        found.append(second)
    assert near(*found, 0.03)
    several = torch.stack((dy, -2 * dy))
    (batched,) = torch.autograd.grad(layer(x), x, several, is_grads_batched=True)
    (single,) = torch.autograd.grad(layer(x), x, several[1])
    assert near(batched[1], single, 2**-7)


@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[2]], ids=repr)
def test_a_gradient_in_another_memory_order(layer: torch.nn.Module) -> None:
    x, _, dy = both(5)
    (expected,) = torch.autograd.grad(layer(x), x, dy)
    (found,) = torch.autograd.grad(layer(x), x, dy.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[2]], ids=repr)
def test_input_changed_before_the_backward_pass_is_refused(layer: torch.nn.Module) -> None:
    x, _, dy = both(1)
    inner = x * 1
    y = layer(inner)
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(dy)


def test_others_are_left_to_plain_operations() -> None:
    x = both(5)[0].detach()
    assert _positions.by_kernel(x)
    for other in (x.float(), x[:, :, ::2], x.contiguous(memory_format=torch.channels_last), x.to("meta"), x[:1, :, :9]):
        assert not _positions.by_kernel(other)
    seen = []
    torch.func.vmap(lambda v: seen.append(_positions.by_kernel(v)) or v)(torch.stack((x, x)))
    assert seen == [False]
