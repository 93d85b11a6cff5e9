"""Cosine normalization against torch's cosine similarity, Pearson correlation and plain loops over patches."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.normalization.cosine_norm import CosineConv2d, CosineLinear

LAYOUTS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "padding": (1, 0), "dilation": (2, 1)},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 1},
]


def patches(layer, x):
    """``(N, groups, n, L)`` by unfolding, for any padding."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        sides = layer._reversed_padding_repeated_twice
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x, padding = F.pad(x, sides, mode=mode), (0, 0)
    else:
        padding = layer.padding
    return F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride).unflatten(1, (layer.groups, -1))


def conv_oracle(layer, x, eps):
    p = patches(layer, x)
    w = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    if layer.centred:
        p, w = p - p.mean(2, keepdim=True), w - w.mean(2, keepdim=True)
    dot = torch.einsum("ngkl,gok->ngol", p, w)
    norm = torch.sqrt(p.pow(2).sum(2, keepdim=True) + eps) * torch.sqrt(w.pow(2).sum(2) + eps)[None, :, :, None]
    return (dot / norm).flatten(1, 2)


def gradients(y, tensors):
    return torch.autograd.grad((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum(), tensors)


def test_linear_is_torch_cosine(parity):
    layer = CosineLinear(7, 5, bias=False, eps=1e-30).double()
    x = torch.randn(4, 3, 7, dtype=torch.float64, requires_grad=True)
    oracle = F.cosine_similarity(x.unsqueeze(-2), layer.weight, dim=-1)
    y = layer(x)
    pairs = zip((y, *gradients(y, [x, layer.weight])), (oracle, *gradients(oracle, [x, layer.weight])), strict=True)
    error = max((a - b).detach().abs().max() for a, b in pairs)
    parity("cosine_linear", error, 1e-12, oracle="torch.nn.functional.cosine_similarity, gradients too")


def test_centred_linear_is_pearson():
    layer = CosineLinear(9, 4, bias=False, centred=True, eps=0.0).double()
    x = torch.randn(6, 9, dtype=torch.float64)
    both = torch.cat([x, layer.weight.detach()])
    assert torch.allclose(layer(x), torch.corrcoef(both)[:6, 6:], atol=1e-14)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_conv_against_unfolded_patches(parity, layout, centred):
    torch.manual_seed(1)
    layer = CosineConv2d(4, 6, bias=False, centred=centred, eps=1e-4, **layout).double()
    if layout["kernel_size"] == 1 and centred and layer.groups == 1:
        assert layer.weight[0].numel() == 4
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64).add_(3).requires_grad_()
    y, oracle = layer(x), conv_oracle(layer, x, 1e-4).view_as(layer(x))
    pairs = zip((y, *gradients(y, [x, layer.weight])), (oracle, *gradients(oracle, [x, layer.weight])), strict=True)
    error = max((a - b).detach().abs().max() for a, b in pairs)
    parity("cosine_norm", error, 1e-12, oracle="unfolded patches, gradients too")


def test_conv_plain_loop():
    layer = CosineConv2d(2, 3, 2, bias=True, eps=0.0).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    y = layer(x)
    for o in range(3):
        for i in range(2):
            for j in range(3):
                patch, w = x[0, :, i : i + 2, j : j + 2].flatten(), layer.weight[o].flatten()
                expected = (patch @ w) / (patch.norm() * w.norm()) + layer.bias[o]
                assert torch.allclose(y[0, o, i, j], expected, atol=1e-14)


def test_bounded_and_scale_free():
    layer = CosineConv2d(3, 8, 3, padding=1, bias=False)
    x = torch.randn(2, 3, 9, 9)
    y = layer(x)
    assert y.abs().max() <= 1 + 1e-6
    assert torch.allclose(layer(50 * x), y, atol=1e-5)
    with torch.no_grad():
        layer.weight.mul_(7)
    assert torch.allclose(layer(x), y, atol=1e-5)


def test_large_mean_keeps_its_digits():
    layer = CosineConv2d(3, 4, 3, padding=1, bias=False, centred=True)
    x = torch.randn(2, 3, 6, 6) + 300
    inner = (..., slice(1, -1), slice(1, -1))
    assert (layer(x)[inner] - layer.double()(x.double())[inner]).abs().max() < 2e-3


@pytest.mark.parametrize("centred", [False, True])
def test_zero_patches_have_finite_gradients(centred):
    layer = CosineConv2d(2, 3, 3, padding=1, centred=centred)
    x = torch.zeros(1, 2, 5, 5, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert torch.allclose(y, layer.bias.view(1, -1, 1, 1).expand_as(y))
    assert x.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()


def test_gradcheck():
    layer = CosineConv2d(2, 2, 2, padding=1, centred=True, eps=1e-3).double()
    assert torch.autograd.gradcheck(layer, torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("layer", [CosineLinear(6, 4), CosineConv2d(6, 4, 3, padding=1, centred=True)])
def test_copies_compiles_exports(layer):
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 5, 5)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.export.export(layer, (x,)).module()):
        assert torch.equal(other(x), y)
    assert torch.allclose(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), y, atol=1e-6)


def test_half_precision_takes_statistics_in_float32():
    layer = CosineConv2d(64, 8, 3, bias=False)
    x = torch.randn(1, 64, 5, 5) * 40  # the sum of squares of a patch, 9e5, overflows float16
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype is torch.bfloat16
    assert (y.float() - layer(x)).abs().max() < 0.02
    assert layer.half()(x.half()).isfinite().all()


def test_channels_last_is_kept():
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    assert CosineConv2d(4, 8, 3)(x).is_contiguous(memory_format=torch.channels_last)


def test_bad_input():
    with pytest.raises(ValueError, match="received \\(2, 5, 4, 4\\)"):
        CosineConv2d(4, 4, 3)(torch.randn(2, 5, 4, 4))
    with pytest.raises(ValueError, match="received \\(2, 5\\)"):
        CosineLinear(4, 4)(torch.randn(2, 5))
    with pytest.raises(TypeError, match="floating point"):
        CosineConv2d(4, 4, 3)(torch.ones(2, 4, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="eps >= 0"):
        CosineLinear(4, 4, eps=-1)
