"""Group normalization against a plain loop, its limits and its refusals."""

from __future__ import annotations

import pytest
import torch
from timm.layers import GroupNorm


def loop(x, groups, gain, shift, eps, biased=True):
    """Sample by sample and group by group."""
    out = torch.empty_like(x)
    each = x.shape[1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            channels = slice(g * each, (g + 1) * each)
            values = x[n, channels]
            count = values.numel() if biased else values.numel() - 1
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / count
            out[n, channels] = (values - mean) / (var + eps) ** 0.5
    return out * gain.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def layer(channels=6, groups=3, eps=1e-2):
    norm = GroupNorm(channels, groups, eps=eps).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def test_plain_loop(parity):
    norm = layer()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, expected = norm(x), loop(other, 3, norm.weight, norm.bias, 1e-2)
    probe = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, probe)
    (expected_grad,) = torch.autograd.grad(expected, other, probe)
    error = max((y - expected).abs().max(), (grad - expected_grad).abs().max())
    parity("group_norm", error, 1e-12, oracle="plain loop over samples and groups")


def test_variance_is_biased_and_eps_inside_the_root():
    norm = layer()
    x = torch.randn(2, 6, 2, 2, dtype=torch.float64)
    assert not torch.allclose(norm(x), loop(x, 3, norm.weight, norm.bias, 1e-2, biased=False), atol=1e-3)
    flat = torch.zeros(1, 6, 2, 2, dtype=torch.float64)
    flat[0, 0, 0, 0] = 1e-3  # variance far below eps: the gain is 1 / sqrt(eps), not 1 / eps
    plain = GroupNorm(6, 1, eps=1e-2, affine=False).double()
    assert abs(float(plain(flat).max()) / 1e-3 - 10) < 0.5


def test_no_sample_sees_another():
    norm = layer().eval()
    x = torch.randn(5, 6, 4, 4, dtype=torch.float64)
    alone = torch.cat([norm(sample) for sample in x.split(1)])
    assert torch.allclose(norm(x), alone, atol=1e-14)
    assert torch.equal(norm.train()(x), norm.eval()(x))


def test_argument_order_is_channels_first():
    assert GroupNorm(64, 8).num_groups == 8
    assert torch.nn.GroupNorm(8, 64).num_groups == 8


def test_zero_variance_has_a_finite_gradient():
    x = torch.ones(2, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    layer()(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="divisible"):
        GroupNorm(10, 4)
