"""DRConv: position by position with the guide's gradient in closed form; limits; bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.convolution import _regions
from zoo.convolution._regions import dense, region_product
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


@pytest.mark.parametrize(
    "case", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 1}, {"kernel_size": 2, "groups": 2}]
)
def test_second_derivatives(case):
    """Differentiating the gradient itself goes through the dense form; both layouts of the work agree."""
    layer = DynamicRegionConv2d(4, 6, **case, num_regions=5).double()
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(layer(x).square().sum(), x)[0]
    graph = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    torch.testing.assert_close(first, graph)
    assert torch.autograd.grad(graph.square().sum(), layer.guide.weight)[0].abs().max() > 0


# kernel, stride, padding, dilation, size of the input
GEOMETRIES = [
    ((1, 1), (1, 1), (0, 0), (1, 1), (5, 4)),
    ((1, 1), (2, 3), (1, 2), (1, 1), (6, 5)),
    ((3, 3), (1, 1), (1, 1), (1, 1), (5, 7)),
    ((3, 2), (2, 1), (0, 1), (1, 2), (7, 6)),
    ((2, 3), (1, 3), (2, 0), (3, 1), (6, 9)),
    ((5, 4), (4, 3), (2, 1), (1, 1), (9, 8)),  # rows and columns at the end that no patch reads
]


def given(geometry, n=3, c=3, o=4, m=5, used=5):
    """Input, filters, soft choice, hard choice among the first ``used`` regions, incoming gradient."""
    kernel, stride, padding, dilation, size = geometry
    x, filters = torch.randn(n, c, *size), torch.randn(n, m, o, c, *kernel)
    shape = F.conv2d(x, filters[0, 0], None, stride, padding, dilation).shape
    made = (x, filters, torch.rand(n, m, *shape[2:]), torch.randint(used, (n, *shape[2:])), torch.randn(shape))
    return [t.double() if t.is_floating_point() else t for t in made]


def sparse_and_dense(x, filters, soft, choice, grad, geometry):
    """Value and gradients of both forms; the dense one is a convolution of all regions, weighted by the choice."""
    args = [list(v) for v in geometry[1:4]]
    hard = F.one_hot(choice, soft.shape[1]).movedim(-1, 1).to(soft.dtype)
    for form in (region_product, dense):
        leaves = [t.detach().requires_grad_() for t in (x, filters, soft)]
        a, w, s = leaves
        y = form(a, w, s, choice, *args) if form is region_product else form(a, w, hard - s.detach() + s, *args)
        yield [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def strided(t):
    """The same values, every other element of a memory twice as large."""
    return torch.stack([t, t - 1], -1)[..., 0]


@pytest.mark.parametrize("at_once", [1, 2**19])  # each image alone, all together
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_sorted_is_dense(geometry, at_once, monkeypatch):
    monkeypatch.setattr(_regions, "_AT_ONCE", at_once)
    tensors = given(geometry, used=3)
    got, want = sparse_and_dense(*tensors, geometry)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    assert not got[2][:, 3:].any()
    assert got[3][:, 3:].any()


@pytest.mark.parametrize("layout", [strided, lambda t: t.contiguous(memory_format=torch.channels_last)])
@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_layouts_of_the_arguments(geometry, layout):
    x, filters, soft, choice, grad = given(geometry)
    plain, _ = sparse_and_dense(x, filters, soft, choice, grad, geometry)
    last = filters.movedim(3, -1).contiguous().movedim(-1, 3)
    other, _ = sparse_and_dense(
        layout(x),
        strided(filters) if layout is strided else last,
        layout(soft),
        strided(choice),
        layout(grad),
        geometry,
    )
    for a, b in zip(other, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    spread = torch.ones((), dtype=x.dtype).expand_as(grad)
    for a, b in zip(*sparse_and_dense(x, filters, soft, choice, spread, geometry), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_arguments_stay_as_they_are():
    tensors = given(GEOMETRIES[2])
    before = [t.clone() for t in tensors]
    list(sparse_and_dense(*tensors, GEOMETRIES[2]))
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


@pytest.mark.parametrize("case", [{"groups": 2}, {"kernel_size": 1, "padding": 0, "generator": "experts"}])
def test_compiled(case):
    torch._dynamo.reset()
    layer = DynamicRegionConv2d(4, 6, **{"kernel_size": 3, "padding": 1, "num_regions": 5, **case}).double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for module in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        y = module(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_autocast(kernel):
    layer = DynamicRegionConv2d(4, 6, kernel, padding=kernel // 2)
    x = torch.randn(2, 4, 6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        choice = layer.guide(x).softmax(1).argmax(1)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == torch.float32
    picked = F.one_hot(choice, 8).movedim(-1, 1).float()
    want = dense(x, layer.filters(x), picked, [1, 1], [kernel // 2] * 2, [1, 1])
    torch.testing.assert_close(y.float(), want, atol=0.05, rtol=0.05)


def test_no_images():
    layer = DynamicRegionConv2d(4, 6, 3, padding=1)
    y = layer(torch.zeros(0, 4, 5, 5, requires_grad=True))
    y.sum().backward()
    assert y.shape == (0, 6, 5, 5)
    assert not layer.guide.weight.grad.any()


@pytest.mark.parametrize("geometry", GEOMETRIES[2:4])
def test_registered_operators(geometry):
    x, filters, soft, choice, grad = given(geometry)
    args = [list(v) for v in geometry[1:4]]
    for w in (filters, filters.movedim(3, -1).contiguous().movedim(-1, 3)):
        leaves = [t.detach().requires_grad_() for t in (x, w, soft)]
        torch.library.opcheck(region_product, (*leaves, choice, *args))
        torch.library.opcheck(_regions.region_product_backward, (grad, x, w, choice, *args, True))


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_filters_by_both_orders_of_memory(kernel):
    """What the layer computes with is what ``filters`` returns, which is contiguous."""
    layer = DynamicRegionConv2d(4, 6, kernel, num_regions=3)
    torch.nn.init.normal_(layer.expand.bias)
    x = torch.randn(2, 4, 7, 6)
    assert layer.filters(x).is_contiguous()
    torch.testing.assert_close(layer._generated(x, channels_last=True), layer.filters(x))
    torch.testing.assert_close(layer.filters(x), filters_of(layer, x))


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
