"""Bilinear pooling against loops over positions, the half form, negative features, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.pooling.bilinear_pooling import BilinearPooling, bilinear_features, signed_sqrt


def plain(a: torch.Tensor, b: torch.Tensor, eps: float) -> torch.Tensor:
    """Sum of outer products position by position, then entry by entry."""
    rows = []
    for x, y in zip(a, b, strict=True):
        total = torch.zeros(x.shape[0], y.shape[0], dtype=x.dtype)
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                total = total + torch.outer(x[:, i, j], y[:, i, j])
        total = (total / (x.shape[1] * x.shape[2])).flatten()
        root = torch.stack([math.copysign(1, v.item()) * torch.sqrt(abs(v) + eps) for v in total])
        rows.append(root / (root @ root).sqrt())
    return torch.stack(rows)


def test_plain_loop(parity):
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 3, 3, 5, dtype=torch.float64)
    y, expected = BilinearPooling(4, eps=1e-2)(x), plain(x, x, 1e-2)
    weight = torch.randn_like(y)
    got, want = (torch.autograd.grad((v * weight).sum(), x)[0] for v in (y, expected))
    two = bilinear_features(x, other, 1e-2) - plain(x, other, 1e-2)
    error = max(float(v.detach().abs().max()) for v in (y - expected, got - want, two))
    parity("bilinear_pooling", error, 1e-11, oracle="outer products position by position, gradient included")


def test_half_keeps_inner_products():
    x, y = torch.randn(2, 3, 6, 4, 4, dtype=torch.float64)
    full, half = BilinearPooling(6), BilinearPooling(6, half=True)
    assert (full.out_features, half.out_features) == (36, 21)
    assert torch.allclose(half(x) @ half(y).T, full(x) @ full(y).T, atol=1e-12)
    assert torch.allclose(half(x).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_negative_features_and_zero_maps_are_finite():
    for x in (-torch.rand(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 1, 1)):
        x.requires_grad_()
        y = BilinearPooling(3)(x)
        y.sum().backward()
        assert torch.isfinite(y).all()
        assert torch.isfinite(x.grad).all()
    z = torch.zeros(3, requires_grad=True)
    signed_sqrt(z).sum().backward()
    assert z.grad.tolist() == [0, 0, 0]


def test_orderless_and_scale_free_up_to_eps():
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    pool = BilinearPooling(5, eps=0.0)
    assert torch.allclose(pool(x), pool(x.flatten(2)[:, :, torch.randperm(16)].view_as(x)), atol=1e-12)
    assert torch.allclose(pool(x), pool(7 * x), atol=1e-12)
    assert BilinearPooling(1)(torch.randn(2, 1, 3, 3)).tolist() == [[1.0], [1.0]]


def test_reduction_and_float32_under_autocast():
    pool = BilinearPooling(12, reduction=4, half=True)
    x = torch.randn(2, 12, 5, 5)
    assert pool(x).shape == (2, pool.out_features) == (2, 10)
    plain_pool = BilinearPooling(12)
    with torch.autocast("cpu", torch.bfloat16):
        inside = plain_pool(x)
    assert torch.equal(inside, plain_pool(x))


@pytest.mark.parametrize(
    "bad", [{"in_channels": 0}, {"in_channels": 2, "eps": -1.0}, {"in_channels": 2, "reduction": 0}]
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="bilinear_pooling needs"):
        BilinearPooling(**bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        BilinearPooling(4)(torch.randn(2, 3, 4, 4))
    with pytest.raises(ValueError, match="one batch and size"):
        bilinear_features(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 5))
