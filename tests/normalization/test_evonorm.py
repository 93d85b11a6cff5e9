"""EvoNorm against loops written from the paper's expressions, and against timm's own classes."""

from __future__ import annotations

import pytest
import torch
from timm.layers import EvoNorm2dB0, EvoNorm2dS0

import zoo
from zoo.normalization.evonorm import EvoNormB0, EvoNormS0


def variance(values):
    values = values.flatten()
    mean = values.sum() / values.numel()
    return ((values - mean) ** 2).sum() / values.numel()


def filled(layer):
    layer = layer.double()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p))
    return layer


def s0_loop(x, layer, groups, eps):
    size = x.shape[1] // groups
    y = []
    for sample in x:
        rows = []
        for c in range(x.shape[1]):
            g = c // size
            std = (variance(sample[g * size : (g + 1) * size]) + eps) ** 0.5
            gate = 1 / (1 + torch.exp(-layer.v[c] * sample[c]))
            rows.append(layer.weight[c] * sample[c] * gate / std + layer.bias[c])
        y.append(torch.stack(rows))
    return torch.stack(y)


def b0_loop(x, layer, eps, batch=None):
    y = []
    for sample in x:
        rows = []
        for c in range(x.shape[1]):
            left = ((variance(x[:, c]) if batch is None else batch[c]) + eps) ** 0.5
            right = layer.v[c] * sample[c] + (variance(sample[c]) + eps) ** 0.5
            rows.append(layer.weight[c] * sample[c] / torch.where(right > left, right, left) + layer.bias[c])
        y.append(torch.stack(rows))
    return torch.stack(y)


def compare(y, expected, leaves):
    probe = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(v, leaves, probe, retain_graph=True) for v in (y, expected))
    return max((a - b).abs().max() for a, b in zip((y, *ours), (expected, *theirs), strict=True))


def test_plain_loop(parity):
    layer = filled(EvoNormS0(6, groups=3, eps=1e-2))
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    error = compare(layer(x), s0_loop(x, layer, 3, 1e-2), [x, *layer.parameters()])
    # timm casts to float32 for the variance, so that 64 bits do not come through
    parity("evonorm_s0", error, 1e-5, oracle="plain loop over samples and channels")


def test_b0_plain_loop(parity):
    layer = filled(EvoNormB0(4, eps=1e-2))
    x = torch.randn(3, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    error = compare(layer(x), b0_loop(x, layer, 1e-2), [x, *layer.parameters()])
    parity("evonorm_b0", error, 1e-5, oracle="plain loop over samples and channels")


def test_b0_running_variance_is_unbiased_and_used_in_evaluation():
    layer = filled(EvoNormB0(3, momentum=0.25))
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)
    layer(x)
    expected = 0.75 + 0.25 * x.var((0, 2, 3), unbiased=True)
    assert torch.allclose(layer.running_var.double(), expected, atol=1e-6)
    layer.eval()
    assert torch.allclose(layer(x), b0_loop(x, layer, 1e-5, layer.running_var), atol=1e-5)


@pytest.mark.parametrize(("ours", "theirs"), [(EvoNormS0, EvoNorm2dS0), (EvoNormB0, EvoNorm2dB0)])
def test_is_timms_class_with_the_same_weights(ours, theirs):
    a, b = ours(32, eps=1e-5), theirs(32, eps=1e-5)
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 32, 4, 4)
    assert isinstance(a, theirs)
    assert torch.equal(a(x), b(x))


def test_arguments_are_checked():
    assert EvoNormS0(8).groups == 8
    assert EvoNormS0(64).groups == 32
    with pytest.raises(ValueError, match="48 channels do not divide into 32 groups"):
        EvoNormS0(48)
    with pytest.raises(TypeError):
        zoo.create("evonorm_s0", 32, group=4)
    with pytest.raises(ValueError, match="at least one channel"):
        EvoNormB0(0)


def test_s0_does_not_see_the_batch_and_b0_does():
    x = torch.randn(4, 8, 5, 5)
    s0, b0 = EvoNormS0(8, groups=2), EvoNormB0(8)
    assert torch.allclose(s0(x)[:1], s0(x[:1]), atol=1e-6)
    assert not torch.allclose(b0(x)[:1], b0(x[:1]), atol=1e-3)
