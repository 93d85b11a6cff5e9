"""Positional normalization and its shortcuts."""

from __future__ import annotations

import pytest
import torch

from zoo.normalization.positional_norm import (
    DynamicMomentShortcut,
    MomentShortcut,
    PositionalNorm,
    positional_norm,
)


def loop(x, eps, unbiased):
    """Position by position; returns y, mean, std."""
    y, means, stds = torch.empty_like(x), torch.empty_like(x[:, :1]), torch.empty_like(x[:, :1])
    for n in range(x.shape[0]):
        for h in range(x.shape[2]):
            for w in range(x.shape[3]):
                values = x[n, :, h, w]
                mean = values.sum() / len(values)
                std = (((values - mean) ** 2).sum() / (len(values) - unbiased) + eps) ** 0.5
                y[n, :, h, w], means[n, 0, h, w], stds[n, 0, h, w] = (values - mean) / std, mean, std
    return y, means, stds


@pytest.mark.parametrize("unbiased", [True, False])
def test_plain_loop(parity, unbiased):
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    found, expected = PositionalNorm(5, 1e-2, unbiased, return_moments=True)(x), loop(other, 1e-2, unbiased)
    probes = [torch.randn_like(v) for v in found]
    grad = torch.autograd.grad(found, x, probes)
    expected_grad = torch.autograd.grad(expected, other, probes)
    pairs = zip((*found, *grad), (*expected, *expected_grad), strict=True)
    error = max((a - b).abs().max() for a, b in pairs)
    parity("positional_norm", error, 1e-12, oracle="plain loop over positions, gradients of y, mean and std included")


@pytest.mark.parametrize("unbiased", [True, False])
def test_first_and_second_derivatives(unbiased):
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: positional_norm(v, 1e-3, unbiased), x)
    assert torch.autograd.gradgradcheck(lambda v: positional_norm(v, 1e-3, unbiased), x)
    for output in range(3):  # one output alone: the others arrive as None
        assert torch.autograd.gradcheck(lambda v, i=output: positional_norm(v, 1e-3, unbiased)[i], x)


def test_the_authors_two_programs_differ_by_the_variance():
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    ratio = PositionalNorm(4, eps=1e-12)(x) / PositionalNorm(4, eps=1e-12, unbiased=False)(x)
    assert torch.allclose(ratio, torch.full_like(ratio, (3 / 4) ** 0.5), atol=1e-9)


def test_shortcut_undoes_the_norm():
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    y, mean, std = PositionalNorm(6, return_moments=True)(x)
    assert torch.allclose(MomentShortcut()(y, mean, std), x, atol=1e-12)


def test_dynamic_shortcut_is_an_affine_map_of_the_features():
    shortcut = DynamicMomentShortcut(3, hidden=4)
    x, mean, std = torch.randn(2, 3, 4, 4), torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    shift = shortcut(torch.zeros_like(x), mean, std)
    gain = shortcut(torch.ones_like(x), mean, std) - shift
    assert torch.allclose(shortcut(x, mean, std), gain * x + shift, atol=1e-5)
    assert (shift - shortcut(torch.zeros_like(x), mean + 1, std)).abs().max() > 1e-3  # the moments reach it


def test_moments_are_float32_for_half_input():
    x = torch.randn(2, 64, 3, 3) + 300
    y, mean, std = positional_norm(x.bfloat16())
    expected = positional_norm(x.bfloat16().float())
    assert y.dtype == torch.bfloat16
    assert mean.dtype == std.dtype == torch.float32
    assert torch.allclose(std, expected[2])
    assert torch.allclose(y.float(), expected[0], atol=2e-2)


def test_compiles_with_gradients():
    norm = PositionalNorm(5, return_moments=True)
    x = torch.randn(2, 5, 3, 3, requires_grad=True)
    plain, compiled = norm(x), torch.compile(norm, fullgraph=True, backend="aot_eager")(x)
    for a, b in zip(plain, compiled, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    (grad,) = torch.autograd.grad(plain[0].pow(3).sum() + plain[2].sum(), x)
    (compiled_grad,) = torch.autograd.grad(compiled[0].pow(3).sum() + compiled[2].sum(), x)
    assert torch.allclose(grad, compiled_grad, atol=1e-5)


def test_an_activation_in_place_may_follow():
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(torch.relu(PositionalNorm(4)(x)).pow(2).sum(), x)
    (in_place,) = torch.autograd.grad(torch.relu_(PositionalNorm(4)(x)).pow(2).sum(), x)
    assert torch.allclose(grad, in_place)


def test_functional_transforms():
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    one = torch.func.grad(lambda v: positional_norm(v)[0].pow(3).sum())(x)
    each = torch.func.vmap(torch.func.grad(lambda v: positional_norm(v[None])[0].pow(3).sum()))(x)
    assert torch.allclose(one, each, atol=1e-12)


@pytest.mark.parametrize("unbiased", [True, False])
def test_channels_last_memory_takes_the_fused_kernel_to_the_same_answer(unbiased):
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    norm, probe = PositionalNorm(5, 1e-2, unbiased), torch.randn_like(x)
    y, z = norm(x), norm(last)
    assert z.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, z, atol=1e-13)
    (a,), (b,) = torch.autograd.grad(y, x, probe), torch.autograd.grad(z, last, probe)
    assert torch.allclose(a, b, atol=1e-12)


def test_jacobian_with_batched_cotangents_only():
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    one = torch.func.jacrev(lambda v: positional_norm(v)[0])(x)
    assert torch.allclose(one, torch.autograd.functional.jacobian(lambda v: positional_norm(v)[0], x), atol=1e-12)


def test_flat_positions_have_a_finite_gradient():
    x = torch.ones(2, 4, 2, 2, requires_grad=True)
    PositionalNorm(4)(x).pow(2).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_refusals():
    with pytest.raises(ValueError, match="num_channels >= 2"):
        PositionalNorm(1)
    with pytest.raises(ValueError, match="made for 4 channels"):
        PositionalNorm(4)(torch.ones(2, 3, 2, 2))
    with pytest.raises(TypeError, match="floating-point"):
        PositionalNorm(4)(torch.ones(2, 4, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="moments of the input's size"):
        MomentShortcut()(torch.ones(2, 4, 2, 2), torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3))
