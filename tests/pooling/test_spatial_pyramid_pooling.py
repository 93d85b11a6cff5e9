"""SPP against loops over bins, for sizes that divide and sizes that do not."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from zoo.pooling.spatial_pyramid_pooling import SpatialPyramidPooling


def plain(x: torch.Tensor, levels, reduce) -> torch.Tensor:
    _, _, h, w = x.shape
    parts = []
    for n in levels:
        rows = [(i * h // n, math.ceil((i + 1) * h / n)) for i in range(n)]
        cols = [(j * w // n, math.ceil((j + 1) * w / n)) for j in range(n)]
        bins = [[reduce(x[:, :, a:b, c:d]) for c, d in cols] for a, b in rows]
        parts.append(torch.stack([torch.stack(row, -1) for row in bins], -2).flatten(1))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("size", [(6, 6), (12, 6), (13, 13), (7, 10), (4, 5), (1, 1)])
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_plain_loop(parity, size, mode):
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    levels = (6, 3, 2, 1)
    y = SpatialPyramidPooling(3, levels, mode)(x)
    expected = plain(x, levels, (lambda v: v.amax((2, 3))) if mode == "max" else (lambda v: v.mean((2, 3))))
    weight = torch.randn_like(y)
    got, want = (torch.autograd.grad((v * weight).sum(), x)[0] for v in (y, expected))
    error = max(float((y - expected).detach().abs().max()), float((got - want).abs().max()))
    parity("spatial_pyramid_pooling", error, 1e-13, oracle="loop over bins, gradient included")


@pytest.mark.parametrize(("a", "n"), [(13, 6), (13, 3), (13, 2), (13, 1), (12, 4)])
def test_the_papers_rule_where_it_is_valid(a, n):
    x = torch.randn(1, 2, a, a)
    window, stride = math.ceil(a / n), a // n
    assert torch.equal(F.max_pool2d(x, window, stride).flatten(1), SpatialPyramidPooling(2, (n,))(x))


def test_the_papers_rule_yields_another_number_of_bins_elsewhere():
    assert F.max_pool2d(torch.zeros(1, 1, 10, 10), 2, 1).shape[-1] == 9  # a = 10, n = 6: window 2, stride 1


def test_length_does_not_depend_on_size():
    pool = SpatialPyramidPooling(4)
    assert pool.out_features == 200
    assert {pool(torch.randn(1, 4, h, w)).shape[1] for h, w in [(6, 6), (9, 17), (2, 3)]} == {200}
    assert torch.equal(SpatialPyramidPooling(4, (1,))(x := torch.randn(2, 4, 5, 6)), x.amax((2, 3)))


@pytest.mark.parametrize("bad", [{"levels": ()}, {"levels": (0, 1)}, {"mode": "sum"}, {"in_channels": 0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="spatial_pyramid_pooling"):
        SpatialPyramidPooling(**({"in_channels": 3} | bad))


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        SpatialPyramidPooling(4)(torch.randn(2, 3, 4, 4))
    for size in ((0, 4), (4, 0)):
        with pytest.raises(RuntimeError, match="non-zero size"):
            SpatialPyramidPooling(3)(torch.zeros(2, 3, *size))
    assert SpatialPyramidPooling(3, (2, 1))(torch.zeros(0, 3, 1, 1)).shape == (0, 15)
