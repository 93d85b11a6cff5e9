"""Weight standardization against a plain loop, timm's class, and its invariances."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import StdConv2d

from zoo.weights.weight_standardization import WSConv1d, WSConv2d, WSConv3d, standardize_weight


def loop(weight, eps):
    rows = []
    for filter_ in weight:
        mean = filter_.sum() / filter_.numel()
        var = ((filter_ - mean) ** 2).sum() / filter_.numel()
        rows.append((filter_ - mean) / (var + eps) ** 0.5)
    return torch.stack(rows)


def test_plain_loop(parity):
    conv = WSConv2d(4, 6, 3, stride=2, padding=1, groups=2, eps=1e-2).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    y = conv(x)
    expected = F.conv2d(x, loop(conv.weight, 1e-2), conv.bias, 2, 1, 1, 2)
    probe = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, conv.weight, probe)
    (expected_grad,) = torch.autograd.grad(expected, conv.weight, probe)
    error = max((y - expected).abs().max(), (grad - expected_grad).abs().max())
    parity("weight_standardization", error, 1e-12, oracle="plain loop over filters")


def test_is_timms_class_with_the_arguments_of_a_plain_convolution():
    ours, theirs = WSConv2d(3, 8, 3, 1, 1), StdConv2d(3, 8, 3, 1, 1, bias=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 6, 6)
    assert isinstance(ours, StdConv2d)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert WSConv2d(3, 8, 3).padding == (0, 0)
    assert WSConv2d(3, 8, 3).bias is not None
    assert StdConv2d(3, 8, 3).padding == (1, 1)
    assert StdConv2d(3, 8, 3).bias is None


def test_filters_have_mean_zero_and_norm_root_n():
    weight = standardize_weight(torch.randn(5, 4, 3, 3, dtype=torch.float64) * 7 + 3, eps=1e-12)
    assert weight.sum((1, 2, 3)).abs().max() < 1e-10
    assert torch.allclose(weight.flatten(1).norm(dim=1), torch.full((5,), 6.0, dtype=torch.float64), atol=1e-9)


def test_scale_and_shift_of_a_filter_are_lost():
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    assert torch.allclose(standardize_weight(3 * weight + 2, 1e-12), standardize_weight(weight, 1e-12), atol=1e-9)


def test_authors_conventions_differ_in_scale_only():
    """Sample deviation plus 1e-5 outside the root: for weights of deviation 0.05 a constant factor near 0.993."""
    weight = torch.randn(8, 8, 3, 3, dtype=torch.float64) * 0.05
    flat = weight.flatten(1)
    authors = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
    ratio = authors.view_as(weight) / standardize_weight(weight)
    assert torch.allclose(ratio, torch.full_like(ratio, 0.9930), atol=5e-4)


@pytest.mark.parametrize(("cls", "shape"), [(WSConv1d, (2, 4, 9)), (WSConv3d, (1, 4, 5, 4, 5))])
def test_other_dimensions(cls, shape):
    conv = cls(4, 6, 3, padding=1, eps=1e-3).double()
    op = F.conv1d if cls is WSConv1d else F.conv3d
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(conv(x), op(x, loop(conv.weight, 1e-3), conv.bias, padding=1), atol=1e-12)


def test_folds_into_a_plain_convolution():
    conv = WSConv2d(3, 8, 3, padding=1)
    x = torch.randn(2, 3, 6, 6)
    plain = F.conv2d(x, conv.standardized_weight(), conv.bias, padding=1)
    assert torch.allclose(conv(x), plain, atol=1e-6)


def test_statistics_stay_in_float32_for_half_weights():
    weight = torch.randn(4, 8, 3, 3) * 1e-3 + 1
    found = standardize_weight(weight.bfloat16()).float()
    assert torch.allclose(found, standardize_weight(weight.bfloat16().float()), atol=2e-2)


def test_filters_of_one_weight_are_refused():
    with pytest.raises(ValueError, match="two or more weights"):
        WSConv2d(8, 8, 1, groups=8)
