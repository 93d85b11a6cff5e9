"""Normalized convolution against unfolded patches, a plain loop and its limiting cases."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from zoo.normalization.normalized_conv import NormalizedConv2d

LAYOUTS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "padding": (2, 1), "dilation": (2, 1), "stride": (1, 2)},
    {"kernel_size": 3, "padding": 1, "groups": 2, "scale": True},
    {"kernel_size": 3, "padding": "same", "unbiased": True},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "groups": 4},
]


def unfold_form(layer, x):
    """The definition: standardise every unfolded patch, then multiply with the filters as they are."""
    padding = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        sides, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
        if padding != "valid":
            x = F.pad(x, sides, mode="constant" if mode == "zeros" else mode)
        padding = (0, 0)
    p = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride).unflatten(1, (layer.groups, -1))
    var, mean = torch.var_mean(p, 2, correction=int(layer.unbiased), keepdim=True)
    p = (p - mean) / torch.sqrt(var + layer.eps)
    y = torch.einsum("ngkl,gok->ngol", p, layer.weight.flatten(1).unflatten(0, (layer.groups, -1))).flatten(1, 2)
    if layer.scale is not None:
        y = y * layer.scale.view(1, -1, 1)
    return y if layer.bias is None else y + layer.bias.view(1, -1, 1)


def gradients(y, tensors):
    return torch.autograd.grad((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum(), tensors)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_unfold_form(parity, layout):
    layer = NormalizedConv2d(4, 8, **layout).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64).add_(2).requires_grad_()
    y = layer(x)
    oracle = unfold_form(layer, x).view_as(y)
    wanted = [x, *layer.parameters()]
    pairs = zip((y, *gradients(y, wanted)), (oracle, *gradients(oracle, wanted)), strict=True)
    parity(
        "normalized_conv", max((a - b).abs().max() for a, b in pairs), 1e-11, oracle="unfolded patches, gradients too"
    )


def test_plain_loop():
    layer = NormalizedConv2d(2, 3, 2, eps=1e-3).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    y = layer(x)
    for i in range(2):
        for j in range(3):
            patch = x[0, :, i : i + 2, j : j + 2]
            var = sum(float((v - patch.mean()) ** 2) for v in patch.flatten()) / 8
            standard = (patch - patch.mean()) / (var + 1e-3) ** 0.5
            for o in range(3):
                assert torch.allclose(y[0, o, i, j], (standard * layer.weight[o]).sum() + layer.bias[o], atol=1e-13)


def test_kernel_one_is_positional_norm_then_convolution():
    layer = NormalizedConv2d(6, 4, 1).double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    positional = F.layer_norm(x.movedim(1, -1), (6,), eps=1e-5).movedim(-1, 1)
    assert torch.allclose(layer(x), F.conv2d(positional, layer.weight, layer.bias), atol=1e-13)


def test_eps_is_inside_the_root_and_variance_biased():
    layer = NormalizedConv2d(1, 1, (1, 2), bias=False, eps=3.0).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    y = layer(torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64))
    assert torch.allclose(y, torch.full_like(y, 0.5), atol=1e-14)  # 1 / sqrt(1 + 3); unbiased would be 1 / sqrt(5)


def test_invariant_to_scale_and_shift():
    layer = NormalizedConv2d(3, 5, 3, eps=0.0).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(layer(3.7 * x - 11), layer(x), atol=1e-11)


def test_large_mean_keeps_its_digits():
    layer = NormalizedConv2d(8, 8, 3)
    x = torch.randn(1, 8, 8, 8) + 1000
    assert (layer(x) - unfold_form(layer.double(), x.double()).view(1, 8, 6, 6)).abs().max() < 1e-2


def test_flat_patches_have_finite_gradients():
    layer = NormalizedConv2d(2, 3, 3)
    x = torch.full((1, 2, 5, 5), 0.3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.abs().max() < 1e-3
    assert x.grad.isfinite().all()


def test_gradcheck():
    layer = NormalizedConv2d(2, 2, 2, padding=1, eps=1e-2, scale=True).double()
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_copies_compiles_exports():
    layer, x = NormalizedConv2d(4, 4, 3, padding=1, groups=2), torch.randn(2, 4, 6, 6)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.export.export(layer, (x,)).module()):
        assert torch.equal(other(x), y)
    assert torch.allclose(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), y, atol=1e-5)
    fresh = NormalizedConv2d(4, 4, 3, padding=1, groups=2)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), y)


def test_autocast_takes_statistics_in_float32():
    layer, x = NormalizedConv2d(8, 8, 3), torch.randn(1, 8, 6, 6) + 5
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype is torch.bfloat16
    assert (y.float() - layer(x)).abs().max() < 0.15


def test_built_on_meta_and_channels_last():
    with torch.device("meta"):
        assert NormalizedConv2d(4, 4, 3)(torch.empty(1, 4, 8, 8)).shape == (1, 4, 6, 6)
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    assert NormalizedConv2d(4, 8, 3)(x).is_contiguous(memory_format=torch.channels_last)


def test_bad_input():
    with pytest.raises(ValueError, match="received 1"):
        NormalizedConv2d(4, 4, 1, groups=4, unbiased=True)
    with pytest.raises(ValueError, match="received \\(4, 5, 5\\)"):
        NormalizedConv2d(4, 4, 3)(torch.randn(4, 5, 5))
    with pytest.raises(TypeError, match="floating point"):
        NormalizedConv2d(4, 4, 3)(torch.ones(2, 4, 4, 4, dtype=torch.int32))
