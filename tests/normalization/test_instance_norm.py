"""Instance normalization: plain loop, contrast invariance, what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.normalization.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d


def loop(x, gain, shift, eps):
    out = torch.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            values = x[n, c]
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / values.numel()
            out[n, c] = gain[c] * (values - mean) / (var + eps) ** 0.5 + shift[c]
    return out


@pytest.fixture
def norm():
    norm = InstanceNorm2d(4, affine=True, eps=1e-2).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_plain_loop(parity, norm):
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, expected = norm(x), loop(other, norm.weight, norm.bias, 1e-2)
    probe = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, probe)
    (expected_grad,) = torch.autograd.grad(expected, other, probe)
    error = max((y - expected).abs().max(), (grad - expected_grad).abs().max())
    parity("instance_norm", error, 1e-12, oracle="plain loop over samples and channels")


@pytest.mark.parametrize(("cls", "shape"), [(InstanceNorm1d, (3, 4, 6)), (InstanceNorm3d, (2, 4, 2, 3, 2))])
def test_other_dimensions(cls, shape):
    x = torch.randn(shape, dtype=torch.float64)
    ones, zeros = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    y = cls(4, affine=True, eps=1e-3).double()(x)
    assert torch.allclose(y, loop(x.flatten(2), ones, zeros, 1e-3).view(shape), atol=1e-12)


def test_brightness_and_contrast_are_lost():
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    plain = nn.InstanceNorm2d(4, eps=1e-12)
    assert torch.allclose(plain(3 * x - 5), plain(x), atol=1e-9)
    assert torch.allclose(plain(-x), -plain(x), atol=1e-12)


def test_train_and_eval_are_one_function_without_running_statistics(norm):
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert torch.equal(norm.train()(x), norm.eval()(x))
    assert not list(norm.buffers())
    tracking = nn.InstanceNorm2d(4, track_running_stats=True).double()
    assert (tracking.train()(x) - tracking.eval()(x)).abs().max() > 0.01  # another function: not the paper's


def test_maps_of_one_pixel_are_refused_in_training(norm):
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        norm(torch.ones(2, 4, 1, 1, dtype=torch.float64))


def test_flat_maps_have_a_finite_gradient(norm):
    x = torch.ones(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    norm(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("samples", [1, 2])
def test_gradient_does_not_depend_on_the_order_of_memory(samples):
    """torch's own class fails this for one sample on a CPU, by as much as the gradient is large."""
    norm = InstanceNorm2d(4, affine=True).double()
    x = torch.randn(samples, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    probe = torch.randn_like(x)
    y = norm(x)
    (plain,) = torch.autograd.grad(y, x, probe, retain_graph=True)
    (last,) = torch.autograd.grad(y, x, probe.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(plain, last, atol=1e-12)


@pytest.mark.parametrize("track", [False, True])
def test_is_torchs_class(track):
    ours, theirs = (c(4, affine=True, track_running_stats=track) for c in (InstanceNorm2d, nn.InstanceNorm2d))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 5, 6)
    assert isinstance(ours, nn.InstanceNorm2d)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
        assert torch.allclose(ours(x[0]), theirs(x[0]), atol=1e-5)
