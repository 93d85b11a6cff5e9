"""Pyramid pooling module against pooling and interpolation matrices; limits; bad input."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.pooling.pyramid_pooling_module import PyramidPoolingModule

_spec = importlib.util.spec_from_file_location("linear_maps", Path(__file__).with_name("_linear_maps.py"))
maps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(maps)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(6, 12), (7, 9), (4, 5), (1, 2), (1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_matrices(parity, align_corners, size, training):
    m = PyramidPoolingModule(8, align_corners=align_corners).double().train(training)
    x = torch.randn(3, 8, *size, dtype=torch.float64, requires_grad=True)
    parts = [x]
    for b, (conv, bn, _) in zip(m.bins, m.branches, strict=True):
        z = maps.norm(maps.conv(maps.pooled(x, b), conv.weight), bn, training).clamp_min(0)
        parts.append(maps.enlarged(z, size, align_corners))
    expected, y = torch.cat(parts, 1), m(x)
    g = torch.randn_like(y)
    leaves = [x, *m.parameters()]
    got, want = (torch.autograd.grad((v * g).sum(), leaves) for v in (y, expected))
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("pyramid_pooling_module", error, 1e-10, oracle="pooling and interpolation matrices, gradients included")


def test_sizes_and_limits():
    m = PyramidPoolingModule(16)
    assert m(torch.randn(2, 16, 9, 9)).shape == (2, m.out_channels, 9, 9) == (2, 32, 9, 9)
    one = PyramidPoolingModule(4, (1,), reduction=3).eval()
    x = torch.randn(1, 4, 5, 5)
    y = one(x)
    assert torch.equal(y[:, :4], x)  # the input comes first
    assert torch.equal(y[:, 4:], y[:, 4:, :1, :1].expand(1, 3, 5, 5))  # one vector, everywhere


def test_batch_of_one():
    x = torch.randn(1, 8, 6, 6)
    with pytest.raises(ValueError, match="batch of 2 or more"):
        PyramidPoolingModule(8)(x)
    assert PyramidPoolingModule(8).eval()(x).shape[1] == 16
    assert PyramidPoolingModule(8, (2, 3))(x).shape[0] == 1
    assert PyramidPoolingModule(8, norm_layer=nn.InstanceNorm2d, bins=(2,))(x).shape[0] == 1


@pytest.mark.parametrize("bad", [{"bins": ()}, {"bins": (0,)}, {"in_channels": 3}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="pyramid_pooling_module needs"):
        PyramidPoolingModule(**({"in_channels": 8} | bad))


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        PyramidPoolingModule(8)(torch.zeros(2, 4, 5, 5))
    with pytest.raises(RuntimeError, match="non-zero size"):
        PyramidPoolingModule(8)(torch.zeros(2, 8, 0, 5))
