"""Sub-pixel convolution against the transposed convolution it equals, ICNR, and the two channel orders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.upsampling._phases import depth_to_space, space_to_depth
from zoo.upsampling.sub_pixel_conv import SubPixelConv, icnr_


@pytest.mark.parametrize(("r", "k"), [(2, 3), (3, 3), (3, 1), (2, 5)])
def test_transposed_convolution(parity, r, k):
    layer = SubPixelConv(3, 2, r, k, icnr=False).double()
    w, p = layer.conv.weight, k // 2
    kernel = torch.zeros(3, 2, r * k, r * k, dtype=torch.float64)
    for co in range(2):
        for dy in range(r):
            for dx in range(r):
                for i in range(k):
                    for j in range(k):
                        kernel[:, co, dy + r * (k - 1 - i), dx + r * (k - 1 - j)] = w[co * r * r + dy * r + dx, :, i, j]
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = F.conv_transpose2d(x, kernel, stride=r, padding=r * (k - 1 - p))
    bias = layer.conv.bias.view(2, r, r).repeat(1, 4, 5)
    y, expected = layer(x), expected + bias
    weight = torch.randn_like(y)
    got, want = (torch.autograd.grad((v * weight).sum(), x, retain_graph=True)[0] for v in (y, expected))
    error = max(float((y - expected).detach().abs().max()), float((got - want).abs().max()))
    parity("sub_pixel_conv", error, 1e-12, oracle="transposed convolution with a kernel of r k, gradient included")


def test_icnr_is_nearest_neighbour_of_a_convolution():
    layer = SubPixelConv(3, 4, 3)
    x = torch.randn(2, 3, 5, 6)
    small = F.conv2d(x, layer.conv.weight[::9], layer.conv.bias[::9], padding=1)
    assert torch.allclose(layer(x), F.interpolate(small, scale_factor=3, mode="nearest"), atol=1e-6)
    assert not torch.allclose(layer.conv.weight[0], layer.conv.weight[9])  # channels differ, cells do not
    plain = SubPixelConv(3, 4, 3, icnr=False)
    assert not torch.allclose(plain.conv.weight[0], plain.conv.weight[1])


@pytest.mark.parametrize("order", ["torch", "phase"])
def test_orders(order):
    x = torch.randn(2, 3, 4, 6)
    y = space_to_depth(x, 2, order)
    for c in range(3):
        for dy in range(2):
            for dx in range(2):
                channel = c * 4 + dy * 2 + dx if order == "torch" else (dy * 2 + dx) * 3 + c
                assert torch.equal(y[:, channel], x[:, c, dy::2, dx::2])
    assert torch.equal(depth_to_space(y, 2, order), x)
    if order == "torch":
        assert torch.equal(y, F.pixel_unshuffle(x, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubPixelConv(3, 0, 2), "sub_pixel_conv needs"),
        (lambda: SubPixelConv(3, 1, 2, 4), "odd kernel_size"),
        (lambda: SubPixelConv(3, 1, 2)(torch.zeros(1, 4, 3, 3)), "received"),
        (lambda: icnr_(torch.zeros(6, 3, 3, 3), 2), "divisible by 4"),
        (lambda: space_to_depth(torch.zeros(1, 1, 3, 4), 2), "divisible by 2"),
        (lambda: depth_to_space(torch.zeros(1, 6, 3, 4), 2), "divisible by 4"),
        (lambda: space_to_depth(torch.zeros(1, 1, 4, 4), 2, "tf"), "order is one of"),
        (lambda: space_to_depth(torch.zeros(1, 1, 4, 4), 0), "r >= 1"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
