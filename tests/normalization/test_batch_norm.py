"""Batch normalization: closed form, the two variances, invariance, re-estimation, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn


def loop(x, gain, shift, eps):
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.numel()
        var = ((values - mean) ** 2).sum() / values.numel()
        out[:, c] = gain[c] * (values - mean) / (var + eps) ** 0.5 + shift[c]
    return out


@pytest.fixture
def norm():
    norm = nn.BatchNorm2d(4, eps=1e-2).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_plain_loop(parity, norm):
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, expected = norm(x), loop(other, norm.weight, norm.bias, 1e-2)
    probe = torch.randn_like(y)
    grads = torch.autograd.grad(y, (x, norm.weight, norm.bias), probe)
    expected_grads = torch.autograd.grad(expected, (other, norm.weight, norm.bias), probe)
    errors = [(a - b).abs().max() for a, b in zip((y, *grads), (expected, *expected_grads), strict=True)]
    parity("batch_norm", max(errors), 1e-12, oracle="plain loop over channels")


@pytest.mark.parametrize(
    ("cls", "shape"), [(nn.BatchNorm1d, (6, 4)), (nn.BatchNorm1d, (6, 4, 5)), (nn.BatchNorm3d, (2, 4, 2, 3, 2))]
)
def test_other_dimensions(cls, shape):
    x = torch.randn(shape, dtype=torch.float64)
    y = cls(4, eps=1e-3).double()(x)
    ones, zeros = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    expected = loop(x.flatten(2) if x.dim() > 2 else x[..., None], ones, zeros, 1e-3).view(shape)
    assert torch.allclose(y, expected, atol=1e-12)


def test_normalises_with_the_biased_and_stores_the_unbiased_variance(norm):
    x = torch.randn(2, 4, 1, 2, dtype=torch.float64)
    norm(x)
    values = x.transpose(0, 1).flatten(1)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * values.var(1, correction=1), atol=1e-12)
    assert torch.allclose(norm.running_mean, 0.1 * values.mean(1), atol=1e-12)


def test_momentum_none_re_estimates_the_data_set(norm):
    norm.momentum = None
    norm.reset_running_stats()
    x = torch.randn(12, 4, 3, 3, dtype=torch.float64)
    for part in x.split(4):
        norm(part)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-12)
    parts = torch.stack([p.transpose(0, 1).flatten(1).var(1, correction=1) for p in x.split(4)])
    assert torch.allclose(norm.running_var, parts.mean(0), atol=1e-12)


def test_scale_of_the_weights_before_it_is_lost():
    """BN(a W x) = BN(W x), and the gradient for the weights falls by a."""
    x, probe = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    weight = torch.randn(3, 5, dtype=torch.float64)
    outputs, grads = [], []
    for a in (1.0, 4.0):
        w = (a * weight).requires_grad_()
        y = nn.functional.batch_norm(x @ w.T, None, None, training=True, eps=1e-14)
        outputs.append(y)
        grads.append(torch.autograd.grad(y, w, probe)[0])
    assert torch.allclose(*outputs, atol=1e-9)
    assert torch.allclose(grads[0], 4 * grads[1], atol=1e-9)


def test_one_value_per_channel_is_refused_in_training(norm):
    with pytest.raises(ValueError, match="more than 1 value"):
        norm(torch.ones(1, 4, 1, 1, dtype=torch.float64))


def test_statistics_stay_in_float32_under_autocast():
    norm, wide = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    x = torch.randn(8, 4, 6, 6) * 1e-2 + 100  # in bfloat16 all values would be 100
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert torch.allclose(y.float(), wide(x), atol=2e-2)
    assert norm.running_var.dtype == torch.float32
    assert torch.allclose(norm.running_var, wide.running_var)
