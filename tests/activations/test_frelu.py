"""FReLU against plain loops, its limits (ReLU, PReLU), folding, and bad input."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from zoo.activations import _funnel
from zoo.activations.frelu import FReLU


def plain(x: torch.Tensor, layer: FReLU, training: bool) -> torch.Tensor:
    """Window by window and channel by channel, statistics written out."""
    total = torch.zeros_like(x)
    for window, norm in zip(layer.windows, layer.norms, strict=True):
        kh, kw = window.kernel_size
        padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2))
        z = torch.zeros_like(x)
        for u in range(kh):
            for v in range(kw):
                tap = window.weight[:, 0, u, v].view(1, -1, 1, 1)
                z = z + tap * padded[:, :, u : u + x.shape[2], v : v + x.shape[3]]
        if window.bias is not None:
            z = z + window.bias.view(1, -1, 1, 1)
        if training:
            mean = z.mean((0, 2, 3), keepdim=True)
            var = ((z - mean) ** 2).mean((0, 2, 3), keepdim=True)  # biased, as BatchNorm normalises
        else:
            mean, var = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)
        z = (z - mean) / (var + norm.eps) ** 0.5
        total = total + norm.weight.view(1, -1, 1, 1) * z + norm.bias.view(1, -1, 1, 1)
    return torch.where(x >= total, x, total)


def layer_of(light: bool = False, bias: bool = True, **kw) -> FReLU:
    layer = FReLU(5, light=light, bias=bias, eps=1e-2, **kw).double()  # a large eps shows where it stands
    for norm in layer.norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
    return layer


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_plain_loop(parity, light, training):
    layer = layer_of(light).train(training)
    x = torch.randn(3, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    running = copy.deepcopy(layer)  # the forward pass in training moves the running statistics
    y, expected = layer(x), plain(x, running, training)
    weight = torch.randn_like(y)
    leaves = [x, *layer.parameters()]
    got = torch.autograd.grad((y * weight).sum(), leaves)
    want = torch.autograd.grad((expected * weight).sum(), [x, *running.parameters()])
    error = max(
        float((y - expected).detach().abs().max()),
        *(float((a - b).abs().max()) for a, b in zip(got, want, strict=True)),
    )
    parity("frelu", error, 1e-11, oracle="loop over window taps with written-out batch statistics, gradients included")


def test_zero_init_is_relu_in_both_modes():
    layer = FReLU(4, zero_init=True)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(layer.train()(x), F.relu(x))
    assert torch.equal(layer.eval()(x), F.relu(x))
    layer.train()(x).sum().backward()
    assert layer.norms[0].weight.grad.abs().max() > 0  # and it can leave the ReLU


def test_centre_tap_is_prelu():
    layer = FReLU(3, eps=0.0).eval().double()
    with torch.no_grad():
        layer.windows[0].weight.zero_()[:, :, 1, 1] = 0.25
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(layer(x), F.prelu(x, torch.full((3,), 0.25, dtype=torch.float64)), atol=1e-15)


def test_training_moves_the_running_statistics_once():
    layer = FReLU(3)
    layer(torch.randn(4, 3, 5, 5))
    assert int(layer.norms[0].num_batches_tracked) == 1


def test_keeps_layout_and_dtype():
    layer = FReLU(8).eval()
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert FReLU(8)(x).dtype == torch.float32  # the activation keeps the dtype it is given


def test_made_on_meta():
    assert FReLU(4, light=True).to("meta")(torch.empty(1, 4, 3, 3, device="meta")).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("bad", [{"num_channels": 0}, {"num_channels": 4, "kernel_size": 2}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="frelu needs"):
        FReLU(**bad)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 10, 4), (2, 4)])
def test_bad_input(shape):
    with pytest.raises(ValueError, match="received"):
        FReLU(4)(torch.randn(shape))


@pytest.mark.parametrize("part", [1, 70, 10**6])
def test_parts_of_the_batch_do_not_show(monkeypatch, part):
    """Statistics are joined over parts; one sample, several with a rest, and the whole batch at a time agree."""
    monkeypatch.setattr(_funnel, "PART", part)  # a sample has 70 values
    layer = layer_of()
    x = (3 + torch.randn(5, 5, 2, 7, dtype=torch.float64)).requires_grad_()  # a mean far from 0 shows a bad variance
    y, expected = layer(x), plain(x, layer, training=True)
    weight = torch.randn_like(y)
    leaves = [x, *layer.parameters()]
    got = torch.autograd.grad((y * weight).sum(), leaves)
    want = torch.autograd.grad((expected * weight).sum(), leaves)
    assert max(float((a - b).detach().abs().max()) for a, b in zip((y, *got), (expected, *want), strict=True)) < 1e-11


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("bias", [True, False])
def test_running_statistics_are_batch_norms(momentum, bias):
    layer = FReLU(4, bias=bias, momentum=momentum).double()
    if bias:
        torch.nn.init.uniform_(layer.windows[0].bias)
    twin = copy.deepcopy(layer)
    for seed in range(3):
        x = torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        layer(x)
        twin.norms[0](twin.windows[0](x))
    for name, value in twin.norms[0].named_buffers():
        torch.testing.assert_close(dict(layer.norms[0].named_buffers())[name], value, rtol=0, atol=1e-14)


def test_ties_halve_the_gradient():
    x = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    layer = FReLU(3).double()  # constant input, shift 0: the funnel is 0 everywhere, as x is
    y = layer(x)
    y.backward(torch.randn_like(y))
    z = x.detach().clone().requires_grad_()
    twin = copy.deepcopy(layer)
    torch.maximum(z, twin.norms[0](twin.windows[0](z))).backward(torch.ones_like(y))
    x.grad = None
    layer(x).backward(torch.ones_like(y))
    torch.testing.assert_close(x.grad, z.grad)


def test_second_derivatives():
    layer = layer_of(bias=False)
    x = torch.randn(3, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    penalties = []
    for y in (layer(x), plain(x, layer, training=True)):
        (g,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad((g**2).sum(), [x, layer.windows[0].weight]))
    for a, b in zip(*penalties, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_registered_operators():
    """Fake kernels, schema and autograd registration, as torch itself checks them."""
    given = (torch.randn(2, 3, 4, 5), torch.randn(3, 1, 3, 3), torch.rand(3), torch.rand(3), 1e-5)
    given = tuple(t.requires_grad_() if isinstance(t, torch.Tensor) else t for t in given)
    torch.library.opcheck(_funnel.funnel, given)


def test_half_precision_keeps_statistics_wide():
    layer = FReLU(3)
    x = 100 + torch.randn(64, 3, 8, 8)
    low = layer(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert layer.norms[0].running_var.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x), copy.deepcopy(layer)(x), rtol=0, atol=0)


def test_trains_under_checkpointing():
    from torch.utils.checkpoint import checkpoint

    grads = []
    for wrap in (lambda f, x: f(x), lambda f, x: checkpoint(f, x, use_reentrant=False)):
        torch.manual_seed(0)
        layer, x = FReLU(3), torch.randn(2, 3, 4, 4, requires_grad=True)
        wrap(layer, x).square().sum().backward()
        grads.append([x.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def test_frozen_window_and_input():
    """Gradients that nobody asks for are not missed, and those asked for do not change."""
    layer = layer_of(bias=False)
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    want = torch.autograd.grad(plain(x, layer, training=True).square().sum(), list(layer.norms[0].parameters()))
    layer.windows.requires_grad_(False)
    layer(x).square().sum().backward()
    assert layer.windows[0].weight.grad is None
    torch.testing.assert_close([p.grad for p in layer.norms[0].parameters()], list(want))
