"""DRConv: position by position with the guide's gradient in closed form; limits; bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.convolution._regions import region_product
from zoo.convolution.dynamic_region_conv import DynamicRegionConv2d

CASES = [
    {"kernel_size": 3, "padding": 1, "generator": "paper"},
    {"kernel_size": 1, "generator": "experts", "num_experts": 2},
    {"kernel_size": (3, 2), "stride": 2, "dilation": (1, 2), "groups": 2, "generator": "paper"},
    {"kernel_size": (3, 2), "stride": 2, "dilation": (1, 2), "groups": 2, "num_regions": 6},  # sorted by region
    {"kernel_size": 3, "padding": 1, "num_regions": 40},  # more regions than some images choose
    {"kernel_size": 1, "padding": 1, "stride": 2, "num_regions": 5},
]


def filters_of(layer, x):
    """The generator sample by sample, with matrix products only."""
    o, cg, kh, kw = layer.filter_shape
    m = layer.num_regions
    out = []
    for v in x:
        if layer.generator == "paper":
            h, w = v.shape[1:]
            cells = torch.stack([
                v[:, i * h // kh : -(-(i + 1) * h // kh), j * w // kw : -(-(j + 1) * w // kw)].mean((1, 2))
                for i in range(kh) for j in range(kw)
            ], 1)  # fmt: skip
            a = torch.sigmoid(layer.squeeze.weight[:, :, 0, 0] @ cells + layer.squeeze.bias[:, None])
            e = layer.expand.weight[:, :, 0, 0].view(m, o * cg, m)
            out.append((e @ a.view(m, m, -1) + layer.expand.bias.view(m, -1, 1)).view(m, o, cg, kh, kw))
        else:
            weights = 2 * torch.sigmoid(layer.route(v.mean((1, 2)))).view(m, -1) / layer.num_experts
            mixed = [sum(w * f for w, f in zip(weights[t], layer.experts[t], strict=True)) for t in range(m)]
            out.append(torch.stack(mixed))
    return torch.stack(out)


@pytest.mark.parametrize("case", CASES)
def test_position_by_position(parity, case):
    layer = DynamicRegionConv2d(4, 6, **{"num_regions": 3, **case}).double()
    m = layer.num_regions
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    guide = layer.guide
    args = (guide.stride, guide.padding, guide.dilation)
    x.requires_grad_()
    w = filters_of(layer, x)
    scores = F.conv2d(x, guide.weight, None, *args)
    z = torch.stack(
        [
            torch.stack([F.conv2d(x[n : n + 1], w[n, t], None, *args, layer.groups)[0] for t in range(m)])
            for n in range(2)
        ]
    )
    pick = scores.argmax(1)
    expected = torch.stack([
        torch.stack([z[n, pick[n, i, j], :, i, j] for i in range(z.shape[-2]) for j in range(z.shape[-1])], 1).view_as(z[n, 0])
        for n in range(2)
    ]) + layer.bias.view(-1, 1, 1)  # fmt: skip
    y = layer(x)
    g = torch.randn_like(y)
    # Gradients: the hard path, plus the closed form of the guide's surrogate carried through softmax by hand.
    inner = torch.einsum("nohw,nmohw->nmhw", g, z)
    soft = scores.softmax(1)
    to_scores = soft * (inner - (soft * inner).sum(1, keepdim=True))
    names = dict(layer.named_parameters())
    leaves = [x, *names.values()]
    got = torch.autograd.grad((y * g).sum(), leaves)
    hard = torch.autograd.grad((expected * g).sum(), leaves, retain_graph=True, allow_unused=True)
    guided = torch.autograd.grad((scores * to_scores.detach()).sum(), leaves, allow_unused=True)
    want = [sum(v for v in pair if v is not None) for pair in zip(hard, guided, strict=True)]
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("dynamic_region_conv", error, 1e-11, oracle="position by position, the guide's gradient in closed form")
    assert float(got[1].abs().max()) > 0


def test_one_region_and_equal_filters_ignore_the_guide():
    one = DynamicRegionConv2d(3, 4, 3, padding=1, num_regions=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    w = one.filters(x)[:, 0]
    expected = torch.cat([F.conv2d(x[n : n + 1], w[n], one.bias, padding=1) for n in range(2)])
    assert torch.allclose(one(x), expected, atol=1e-12)
    same = DynamicRegionConv2d(3, 4, 1, num_regions=4, generator="experts").double()
    with torch.no_grad():
        same.experts.copy_(same.experts[:1, :1].expand_as(same.experts))
        same.route.weight.zero_()
    assert torch.allclose(same(x), F.conv2d(x, same.experts[0, 0], same.bias), atol=1e-12)


def test_second_derivatives():
    """Differentiating the gradient itself goes through the dense form; both layouts of the work agree."""
    layer = DynamicRegionConv2d(3, 4, 3, padding=1, num_regions=5).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(layer(x).square().sum(), x)[0]
    graph = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    torch.testing.assert_close(first, graph)
    assert torch.autograd.grad(graph.square().sum(), layer.guide.weight)[0].abs().max() > 0


def test_registered_operators():
    x, filters, soft = torch.randn(2, 3, 4, 5), torch.randn(2, 5, 4, 3, 3, 3), torch.rand(2, 5, 4, 5)
    given = [t.requires_grad_() for t in (x, filters, soft)]
    torch.library.opcheck(region_product, (*given, torch.randint(5, (2, 4, 5)), [1, 1], [1, 1], [1, 1]))


def test_same_value_without_gradients():
    layer = DynamicRegionConv2d(3, 4, 3, num_regions=4)
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        quiet = layer(x)
    assert torch.allclose(quiet, layer(x), atol=1e-6)


@pytest.mark.parametrize("generator", ["paper", "experts"])
def test_spread_at_the_start(generator):
    torch.manual_seed(1)
    layer = DynamicRegionConv2d(64, 64, 3, padding=1, generator=generator)
    y = layer(torch.randn(2, 64, 12, 12))
    assert 0.2 < float(y.detach().std()) < 2


@pytest.mark.parametrize("bad", [{"num_regions": 0}, {"generator": "none"}, {"groups": 3}, {"num_experts": 0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="dynamic_region_conv"):
        DynamicRegionConv2d(4, 4, 3, **bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        DynamicRegionConv2d(4, 4, 3)(torch.zeros(1, 3, 5, 5))
