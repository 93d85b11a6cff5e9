"""Moments and affine maps: first and second derivatives, both memory orders, half precision."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from zoo.normalization import _kernels
from zoo.normalization._affine import combine, observe, sample_moments, scale_shift, spread, sums
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


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("size", [(32, 16), (48, 48)], ids=["few", "many"])  # below and above `_kernels.FEW`
def test_moments_of_each_sample_and_of_ghost_batches(order, offset, size):
    x = (torch.randn(4, 64, *size) * 2 + offset).contiguous(memory_format=order)
    with torch.no_grad():
        for samples in (1, 2, 4):
            rows = x.double().unflatten(0, (-1, samples))
            mean, var = sample_moments(x, samples)
            assert mean.shape == var.shape == (samples, 64)
            assert torch.allclose(mean.double(), rows.mean((0, 3, 4)), rtol=4e-6, atol=1e-6)
            assert torch.allclose(var.double(), rows.var((0, 3, 4), correction=0), rtol=2e-5)
        pooled = _kernels.pooled(*sample_moments(x))
    for found, wanted in zip(
        pooled, (x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)), strict=True
    ):
        assert torch.allclose(found.double(), wanted, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_combining(dtype, samples, order):
    """The same with kernels, with plain terms, and with a gain of zero."""
    x, dy = (torch.randn(4, 3, 5, 6).contiguous(memory_format=order).to(dtype) for _ in range(2))
    a, b, c = (torch.randn(samples, 3) for _ in range(3))
    a[0, 0] = 0
    wanted = sum(
        v.repeat(4 // samples, 1)[..., None, None] * u.double() for v, u in ((a, dy), (b, x), (c, torch.ones(1)))
    )
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            along, total, room = sums(dy, x, samples)
            found = combine(dy, a, x, b, c, room)
            without = combine(dy, a, x, b)
        for received, expected in ((found, wanted), (without + spread(c, x), wanted)):
            error = (received.double() - expected).abs().max()
            assert error < {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
        for received, product in ((along, dy.double() * x.double()), (total, dy.double())):
            expected = product.unflatten(0, (-1, samples)).sum((0, 3, 4))
            assert torch.allclose(received.double(), expected, atol=1e-4)
