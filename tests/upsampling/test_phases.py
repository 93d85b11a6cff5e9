"""``space_to_depth`` and its inverse in every order, element by element, and that all users of an order mean the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.upsampling._phases import ORDERS, depth_to_space, space_to_depth
from zoo.upsampling.dense_upsampling_conv import labels_in_cells

#: Channel of (c, dy, dx) among C channels and cells of side r.
CHANNEL = {
    "torch": lambda c, dy, dx, channels, r: (c * r + dy) * r + dx,
    "phase": lambda c, dy, dx, channels, r: (dy * r + dx) * channels + c,
}


def loops(x: torch.Tensor, r: int, order: str) -> torch.Tensor:
    n, channels, height, width = x.shape
    out = torch.empty(n, channels * r * r, height // r, width // r, dtype=x.dtype)
    for i in range(n):
        for c in range(channels):
            for row in range(height):
                for column in range(width):
                    k = CHANNEL[order](c, row % r, column % r, channels, r)
                    out[i, k, row // r, column // r] = x[i, c, row, column]
    return out


def test_all_orders_are_here():
    assert set(CHANNEL) == set(ORDERS)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (1, 1, 3, 1), (2, 4, 1, 2)])
@pytest.mark.parametrize("r", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_element_by_element_and_inverse(order, r, shape, memory_format):
    n, c, h, w = shape
    x = torch.arange(n * c * h * w * r * r, dtype=torch.float64).view(n, c, h * r, w * r)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    y = space_to_depth(x, r, order)
    assert torch.equal(y, loops(x.detach(), r, order))
    assert torch.equal(depth_to_space(y, r, order), x)
    assert torch.equal(space_to_depth(depth_to_space(y, r, order), r, order), y)
    g = torch.randn_like(y)  # a permutation: the gradient is the inverse of g
    assert torch.equal(torch.autograd.grad(y, x, g)[0], depth_to_space(g, r, order))


def test_orders_differ_by_a_permutation_of_channels():
    x, r, c = torch.randn(2, 3, 6, 4), 2, 3
    index = [
        CHANNEL["torch"](k, dy, dx, c, r) for dy in range(r) for dx in range(r) for k in range(c)
    ]  # in the order of phases
    assert torch.equal(space_to_depth(x, r, "torch")[:, index], space_to_depth(x, r, "phase"))
    assert not torch.equal(space_to_depth(x, r, "torch"), space_to_depth(x, r, "phase"))
    assert not torch.equal(depth_to_space(space_to_depth(x, r, "phase"), r, "torch"), x)  # one does not undo the other
    single = x[:, :1]
    assert torch.equal(space_to_depth(single, r, "torch"), space_to_depth(single, r, "phase"))


def test_torchs_own():
    x, y = torch.randn(2, 3, 6, 9), torch.randn(2, 18, 3, 2)
    assert torch.equal(space_to_depth(x, 3), F.pixel_unshuffle(x, 3))
    assert torch.equal(depth_to_space(y, 3), F.pixel_shuffle(y, 3))


def test_labels_of_dense_upsampling_are_in_torchs_order():
    labels = torch.randint(0, 9, (2, 6, 4))
    assert torch.equal(labels_in_cells(labels, 2), loops(labels[:, None], 2, "torch"))


@pytest.mark.parametrize("order", ORDERS)
def test_sizes_that_do_not_divide(order):
    for shape in ((1, 2, 5, 4), (1, 2, 4, 5), (1, 2, 3, 3)):
        with pytest.raises(ValueError, match=r"divisible by 2, received \(1, 2"):
            space_to_depth(torch.zeros(shape), 2, order)
    with pytest.raises(ValueError, match=r"divisible by 9, received \(1, 8, 2, 2\)"):
        depth_to_space(torch.zeros(1, 8, 2, 2), 3, order)
    empty = space_to_depth(torch.zeros(0, 2, 4, 4), 2, order)
    assert empty.shape == (0, 8, 2, 2)
