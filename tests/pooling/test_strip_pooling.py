"""Strip and mixed pooling against pooling matrices and tap-by-tap convolutions; limits; bad input."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from zoo.pooling.strip_pooling import MixedPooling, StripPooling

_spec = importlib.util.spec_from_file_location("linear_maps", Path(__file__).with_name("_linear_maps.py"))
maps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(maps)


def step(x, pair, training, relu=False):
    y = maps.norm(maps.conv(x, pair[0].weight), pair[1], training)
    return y.clamp_min(0) if relu else y


def strip(x, m, training):
    rows = torch.stack([x[:, :, i].sum(-1) / x.shape[3] for i in range(x.shape[2])], 2)[..., None]
    columns = torch.stack([x[..., j].sum(-1) / x.shape[2] for j in range(x.shape[3])], -1)[:, :, None]
    s = (step(rows, m.rows, training) + step(columns, m.columns, training)).clamp_min(0)
    z = torch.einsum("oc,nchw->nohw", m.gate.weight[:, :, 0, 0], s) + m.gate.bias.view(1, -1, 1, 1)
    return x / (1 + (-z).exp())


def mixed(x, m, training):
    near = step(x, m.reduce_near, training, relu=True)
    total = step(near, m.full, training)
    for bins, pair in zip(m.pool_sizes, m.pooled, strict=True):
        total = total + maps.enlarged(step(maps.pooled(near, bins), pair, training), x.shape[2:], False)
    far = step(x, m.reduce_far, training, relu=True)
    strips = step(far.sum(2, keepdim=True) / x.shape[2], m.row, training)
    strips = strips + step(far.sum(3, keepdim=True) / x.shape[3], m.column, training)
    both = [step(v.clamp_min(0), pair, training, relu=True) for v, pair in ((total, m.near), (strips, m.far))]
    return (x + step(torch.cat(both, 1), m.project, training)).clamp_min(0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "make", "plain"), [
    ("strip_pooling", lambda: StripPooling(8), strip),
    ("mixed_pooling", lambda: MixedPooling(8, (4, 3)), mixed),
])  # fmt: skip
def test_matrices(parity, name, make, plain, training):
    m = make().double().train(training)
    for part in m.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)
            part.running_mean.normal_()
            torch.nn.init.normal_(part.bias)
    x = torch.randn(3, 8, 5, 7, dtype=torch.float64, requires_grad=True)
    expected, y = plain(x, m, training), m(x) if training else None
    y = m(x) if y is None else y
    g = torch.randn_like(y)
    leaves = [x, *m.parameters()]
    got, want = (torch.autograd.grad((v * g).sum(), leaves) for v in (y, expected))
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity(name, error, 1e-10, oracle="pooling and interpolation matrices, taps one by one, gradients included")


def test_a_gate_that_is_open_is_the_identity():
    m = StripPooling(4)
    with torch.no_grad():
        m.gate.weight.zero_()
        m.gate.bias.fill_(50.0)
    x = torch.randn(2, 4, 5, 6)
    assert torch.equal(m(x), x)


def test_one_pixel_reaches_its_whole_row_and_column_only():
    m = StripPooling(2).double().eval()
    for part in (m.rows, m.columns):
        with torch.no_grad():
            part[0].weight[:, :, [0, -1]] = 0 if part is m.rows else part[0].weight[:, :, [0, -1]]
            if part is m.columns:
                part[0].weight[..., [0, -1]] = 0
            part[1].bias.fill_(5.0)  # keeps the ReLU open
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(m(x)[0, :, 2, 3].sum(), x)
    reached = g[0].abs().sum(0) > 0
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[2], expected[:, 3] = True, True
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3)])
def test_maps_smaller_than_the_bins(size, training):
    """Bins of 20 and 12 on a map of a few positions: every bin repeats a position, as the pooling matrix says."""
    m = MixedPooling(8).double().train(training)
    x = torch.randn(3, 8, *size, dtype=torch.float64)
    expected = mixed(x, m, training)
    torch.testing.assert_close(m(x), expected)
    small = StripPooling(8).double().train(training)
    torch.testing.assert_close(small(x), strip(x, small, training))


@pytest.mark.parametrize("cls", [StripPooling, MixedPooling])
def test_bad_input(cls):
    with pytest.raises(ValueError, match="needs in_channels"):
        cls(0)
    with pytest.raises(ValueError, match="received"):
        cls(8)(torch.zeros(2, 4, 5, 5))
    for size in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=r"received \(2, 8, "):
            cls(8)(torch.zeros(2, 8, *size))
