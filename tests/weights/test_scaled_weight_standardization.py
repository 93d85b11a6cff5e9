"""Scaled weight standardization against a plain loop, timm's class, and the gains that it needs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d
from timm.models.nfnet import _nonlin_gamma

from zoo.errors import UnknownName
from zoo.weights.scaled_weight_standardization import ACTIVATIONS, ScaledWSConv2d, variance_gain


def loop(weight, gain, gamma, eps):
    rows = []
    for filter_, g in zip(weight, gain.flatten(), strict=True):
        n = filter_.numel()
        mean = filter_.sum() / n
        var = ((filter_ - mean) ** 2).sum() / n
        rows.append(g * gamma * (filter_ - mean) / (n**0.5 * (var + eps) ** 0.5))
    return torch.stack(rows)


def test_plain_loop(parity):
    conv = ScaledWSConv2d(4, 6, 3, stride=2, padding=1, groups=2, gamma=1.7, eps=1e-2).double()
    with torch.no_grad():
        conv.gain.normal_()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    y = conv(x)
    expected = F.conv2d(x, loop(conv.weight, conv.gain, 1.7, 1e-2), conv.bias, 2, 1, 1, 2)
    probe = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(v, [conv.weight, conv.gain, conv.bias], probe) for v in (y, expected))
    error = max((a - b).abs().max() for a, b in zip((y, *ours), (expected, *theirs), strict=True))
    parity("scaled_weight_standardization", error, 1e-12, oracle="plain loop over filters")


def test_is_timms_class_with_the_arguments_of_a_plain_convolution():
    ours = ScaledWSConv2d(3, 8, 3, 1, 1, gamma=1.7)
    theirs = ScaledStdConv2d(3, 8, 3, 1, 1, gamma=1.7)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 6, 6)
    assert isinstance(ours, ScaledStdConv2d)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert ScaledWSConv2d(3, 8, 3).padding == (0, 0)
    assert ScaledStdConv2d(3, 8, 3).padding == (1, 1)


def test_filters_have_mean_zero_and_norm_gamma():
    conv = ScaledWSConv2d(4, 5, 3, gamma=1.5, eps=1e-12).double()
    weight = conv.standardized_weight()
    assert weight.sum((1, 2, 3)).abs().max() < 1e-10
    assert torch.allclose(weight.flatten(1).norm(dim=1), torch.full((5,), 1.5, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gain_is_the_inverse_deviation(name):
    """timm's constants come from a finite sample, hence the tolerance; leaky_relu there and here has slope 0.01."""
    assert variance_gain(name) == pytest.approx(_nonlin_gamma[name], rel=5e-3)


def test_gain_of_relu_in_closed_form_and_by_sampling():
    assert variance_gain("relu") == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), rel=1e-12)
    z = torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float((F.silu(z) * variance_gain("silu")).var()) == pytest.approx(1, abs=0.01)


def test_bad_input():
    with pytest.raises(ValueError, match="two or more weights"):
        ScaledWSConv2d(4, 4, 1, groups=4)
    with pytest.raises(UnknownName, match="gelu"):
        variance_gain("gelo")
