"""Moments and affine maps: first and second derivatives, both memory orders, half precision."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from zoo.normalization._affine import observe, scale_shift
from zoo.normalization.batch_channel_norm import BatchChannelNorm2d
from zoo.normalization.four_things_bn import FourThingsBatchNorm2d


def standardised(x, each_sample):
    x, mean, var = observe(x, each_sample)
    inverse = (var + 1e-5).rsqrt()
    return scale_shift(x, inverse, -mean * inverse)


def oracle(x, each_sample):
    """Written out: torch 2.15's instance norm has a wrong gradient for one sample in channels-last memory."""
    dims = (2, 3) if each_sample else (0, 2, 3)
    return (x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("each_sample", [True, False])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("samples", [1, 3])
def test_standardising_written_out(each_sample, order, samples):
    x = torch.randn(samples, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=order).requires_grad_()
    y, expected = standardised(x, each_sample), oracle(x, each_sample)
    assert y.is_contiguous(memory_format=order)
    probe = torch.randn_like(x)
    (a,), (b,) = (torch.autograd.grad(v, x, probe, create_graph=True) for v in (y, expected))
    (aa,), (bb,) = (torch.autograd.grad(g.pow(2).sum(), x) for g in (a, b))
    for found, wanted in ((y, expected), (a, b), (aa, bb)):
        assert torch.allclose(found, wanted, atol=1e-11)


@pytest.mark.parametrize("samples", [3, 1])
def test_derivatives(samples):
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    scale, shift = (torch.randn(samples, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(scale_shift, (x, scale, shift))
    assert gradgradcheck(scale_shift, (x, scale, shift))
    assert gradcheck(lambda v: standardised(v, samples == 3), x)


def test_gradients_are_not_changed_under_their_owner():
    """The gradient that `observe` completes in place belongs to nobody else: what the caller handed in stays."""
    x, probe = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    kept, y = probe.clone(), standardised(x, True)
    first = torch.autograd.grad(y, x, probe, retain_graph=True)[0]
    again = torch.autograd.grad(y, x, probe)[0]
    assert torch.equal(probe, kept)
    assert torch.equal(first, again)


def test_large_mean_keeps_its_digits():
    x = torch.randn(2, 3, 64, 64) + 1e4
    _, _, var = observe(x)
    assert torch.allclose(var.double(), x.double().var((2, 3), correction=0), rtol=1e-3)


def test_half_precision_takes_moments_in_float32():
    x = (torch.randn(4, 3, 16, 16) * 2 + 5).bfloat16().requires_grad_()
    _, mean, var = observe(x)
    assert mean.dtype is var.dtype is torch.float32
    y = standardised(x, True)
    assert y.dtype is torch.bfloat16
    (grad,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert grad.dtype is torch.bfloat16
    assert torch.allclose(y.float(), standardised(x.float(), True), atol=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FourThingsBatchNorm2d(4, 2, 2, eps=1e-2),
        lambda: FourThingsBatchNorm2d(4, 1, 2, eps=1e-2),
        lambda: FourThingsBatchNorm2d(4, 2, eps=1e-2),
        lambda: BatchChannelNorm2d(4, 2, eps=1e-2),
        lambda: BatchChannelNorm2d(4, 2, eps=1e-2, momentum=0.0, estimated=True),
    ],
)
def test_second_derivatives_of_the_layers(make):
    norm = make().double()
    for p in norm.parameters():
        torch.nn.init.normal_(p)
    state = {k: v.clone() for k, v in norm.state_dict().items()}

    def call(x, *parameters):
        norm.load_state_dict(state)
        return torch.func.functional_call(norm, dict(zip(names, parameters, strict=True)), (x,))

    names = [n for n, _ in norm.named_parameters()]
    given = [p.detach().clone().requires_grad_() for p in norm.parameters()]
    x = torch.randn(4, 4, 2, 1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(call, (x, *given))
    assert gradgradcheck(call, (x, *given))
