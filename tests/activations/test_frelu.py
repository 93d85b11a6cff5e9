"""FReLU against plain loops, its limits (ReLU, PReLU), folding, and bad input."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

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
