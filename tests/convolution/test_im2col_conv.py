"""Every algorithm against F.conv2d in float64, over random geometries, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.convolution.im2col_conv import ALGORITHMS, Im2colConv2d, indirection_buffer

GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 2), (2, 1), (0, 2), (1, 2), 2),
    ((1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 3), (3, 2), (1, 2), (2, 1), 4),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_native(parity, algorithm, geometry):
    kernel, stride, padding, dilation, groups = geometry
    layer = Im2colConv2d(4, 8, kernel, stride, padding, dilation, groups, algorithm=algorithm).double()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    expected = F.conv2d(x, layer.weight, layer.bias, stride, padding, dilation, groups)
    g = torch.randn_like(expected)
    leaves = [x, layer.weight, layer.bias]
    got, want = (torch.autograd.grad((v * g).sum(), leaves) for v in (y, expected))
    assert y.shape == expected.shape
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("im2col_conv", error, 1e-12, oracle="F.conv2d in float64, gradients included")


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(0, 3)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2), st.sampled_from([1, 2]), st.sampled_from(sorted(ALGORITHMS)),
)  # fmt: skip
def test_any_geometry(kernel, stride, padding, dilation, groups, algorithm):
    layer = Im2colConv2d(2, 4, kernel, stride, padding, dilation, groups, algorithm=algorithm).double()
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64)
    assert torch.allclose(layer(x), torch.nn.Conv2d.forward(layer, x), atol=1e-12)


def test_indirection_buffer_by_hand():
    # A 2 x 2 image, kernel 2, padding 1: nine outputs; 4 is the row of zeros.
    assert indirection_buffer((2, 2), (2, 2), (1, 1), (1, 1), (1, 1)).tolist() == [
        [4, 4, 4, 0], [4, 4, 0, 1], [4, 4, 1, 4],
        [4, 0, 4, 2], [0, 1, 2, 3], [1, 4, 3, 4],
        [4, 2, 4, 4], [2, 3, 4, 4], [3, 4, 4, 4],
    ]  # fmt: skip


def test_weights_of_a_convolution_load():
    plain, layer = torch.nn.Conv2d(3, 4, 3), Im2colConv2d(3, 4, 3, algorithm="shifted")
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 5, 5)
    assert torch.allclose(layer(x), plain(x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Im2colConv2d(3, 4, 3, algorithm="winograd"), "takes algorithm"),
        (lambda: Im2colConv2d(3, 4, 3, padding="same"), "in numbers"),
        (lambda: Im2colConv2d(3, 4, 3)(torch.zeros(1, 2, 5, 5)), "received"),
        (lambda: Im2colConv2d(3, 4, 5)(torch.zeros(1, 3, 4, 4)), "does not fit"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
