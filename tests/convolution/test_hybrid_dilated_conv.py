"""HDC: the recursion, holes counted by gradients, dilated convolution by hand, surgery on a stage."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.convolution.hybrid_dilated_conv import HybridDilatedConv, coverage, follows_rule, largest_gap, set_dilations


def by_inserted_zeros(x: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    """A dilated convolution as an ordinary one of a kernel with zeros between its taps."""
    size = (weight.shape[-1] - 1) * rate + 1
    wide = torch.zeros(*weight.shape[:2], size, size, dtype=weight.dtype)
    wide[..., ::rate, ::rate] = weight
    return F.conv2d(x, wide, padding=size // 2)


@pytest.mark.parametrize("training", [True, False])
def test_kernels_with_inserted_zeros(parity, training):
    layer = HybridDilatedConv(3, (1, 2, 5), out_channels=4).double().train(training)
    x = torch.randn(2, 3, 11, 9, dtype=torch.float64, requires_grad=True)
    z = x
    for rate, (conv, bn) in zip((1, 2, 5), zip(layer.layers[::3], layer.layers[1::3], strict=True), strict=True):
        z = by_inserted_zeros(z, conv.weight, rate)
        mean, var = (
            (z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)) if training else (bn.running_mean, bn.running_var)
        )
        z = ((z - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + bn.eps).sqrt()).clamp_min(0)
    y = layer(x)
    g = torch.randn_like(y)
    got, want = (torch.autograd.grad((v * g).sum(), x)[0] for v in (y, z))
    error = max(float((y - z).detach().abs().max()), float((got - want).abs().max()))
    parity("hybrid_dilated_conv", error, 1e-10, oracle="kernels with inserted zeros, gradient included")


@pytest.mark.parametrize(("rates", "gap", "good"), [
    ((1, 2, 5), 2, True), ((1, 2, 9), 5, False), ((2, 2, 2), 2, False), ((2, 4, 8), 4, False), ((3, 4, 5), 4, False),
    ((1,), 1, True), ((1, 2), 2, True),
])  # fmt: skip
def test_rule(rates, gap, good):
    assert largest_gap(rates) == gap
    assert follows_rule(rates) is good


@pytest.mark.parametrize("rates", [(1, 2, 5), (2, 2, 2), (1, 2, 9), (1, 1)])
def test_coverage_is_what_gradients_reach(rates):
    x = torch.zeros(1, 1, 61, dtype=torch.float64, requires_grad=True)
    z = x
    for r in rates:
        z = F.conv1d(z, torch.ones(1, 1, 3, dtype=torch.float64), padding=r, dilation=r)
    (g,) = torch.autograd.grad(z[0, 0, 30], x)
    reach = sum(rates)
    assert g[0, 0, 30 - reach : 31 + reach].long().tolist() == coverage(rates).tolist()
    assert float(g.sum()) == float(coverage(rates).sum()) == 3 ** len(rates)


def test_set_dilations_keeps_sizes_and_skips_others():
    def block() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1))

    stage = nn.Sequential(block(), block(), block())
    assert set_dilations(stage, (1, 2)) == ["0.1", "1.1", "2.1"]
    assert [stage[i][1].dilation[0] for i in range(3)] == [1, 2, 1]
    assert stage(torch.zeros(1, 4, 32, 32)).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match="found no convolution"):
        set_dilations(nn.Linear(2, 2), (1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HybridDilatedConv(3, (2, 2, 2)), "leave gaps"),
        (lambda: HybridDilatedConv(3, ()), "one or more rates"),
        (lambda: HybridDilatedConv(3, (0, 1)), "one or more rates"),
        (lambda: HybridDilatedConv(3, kernel_size=2), "odd kernel_size"),
        (lambda: HybridDilatedConv(3)(torch.zeros(1, 2, 4, 4)), "received"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
