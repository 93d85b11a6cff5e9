"""meProp against row-by-row selection, a worked example, limits, and work that shrinks with k."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.backward.meprop import MePropConv2d, MePropLinear


def expected(x, w, g, k, unified):
    """Python loops over samples and outputs."""
    kept = g.clone()
    if unified:
        totals = [float(sum(abs(v) for v in column)) for column in g.T]
        best = set(sorted(range(len(totals)), key=lambda j: -totals[j])[:k])
        for j in range(g.shape[1]):
            if j not in best:
                kept[:, j] = 0
    else:
        for row in kept:
            best = set(sorted(range(len(row)), key=lambda j: -abs(float(row[j])))[:k])
            for j in range(len(row)):
                if j not in best:
                    row[j] = 0
    return kept @ w, kept.T @ x, g.sum(0)


@pytest.mark.parametrize("mode", ["unified", "per_example"])
@pytest.mark.parametrize("k", [1, 3])
def test_loops(parity, mode, k):
    layer = MePropLinear(4, 6, k=k, mode=mode).double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    got = torch.autograd.grad(y, [x, layer.weight, layer.bias], g)
    want = expected(x.detach(), layer.weight.detach(), g, k, mode == "unified")
    forward = (y - F.linear(x, layer.weight, layer.bias)).detach().abs().max()
    error = max(float(forward), *(float((a - b).abs().max()) for a, b in zip(got, want, strict=True)))
    parity("meprop", error, 1e-12, oracle="selection in Python loops, dense bias gradient")
    if mode == "unified":
        assert int((got[1].abs().sum(1) > 0).sum()) == k  # exactly k rows of the weight move


def test_worked_example():
    layer = MePropLinear(2, 3, bias=False, k=1, mode="per_example")
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    layer(x).backward(torch.tensor([[0.1, -0.5, 0.2], [0.9, 0.3, -0.4]]))
    assert torch.allclose(layer.weight.grad, torch.tensor([[2.7, 3.6], [-0.5, -1.0], [0.0, 0.0]]))
    unified = MePropLinear(2, 3, bias=False, k=1)
    unified(x).backward(torch.tensor([[0.1, -0.5, 0.2], [0.9, 0.3, -0.4]]))  # sums 1.0, 0.8, 0.6
    assert torch.allclose(unified.weight.grad, torch.tensor([[2.8, 3.8], [0.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("mode", ["unified", "per_example"])
def test_all_outputs_kept_is_the_ordinary_layer(mode):
    layer = MePropLinear(3, 4, k=4, mode=mode)
    almost = MePropLinear(3, 4, k=3, mode=mode)
    almost.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 3)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert torch.allclose(almost(x), layer(x), atol=1e-6)
    assert almost(x).shape == (2, 5, 4)
    layer(x).square().sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    F.linear(x, weight, layer.bias).square().sum().backward()
    assert torch.equal(layer.weight.grad, weight.grad)


def test_autocast():
    layer = MePropLinear(8, 6, k=2)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(3, 8))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("bad", [{"k": 0}, {"mode": "best"}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="meprop"):
        MePropLinear(3, 4, **bad)


def chosen(g: torch.Tensor, k: int, unified: bool) -> torch.Tensor:
    """The gradient with what is dropped set to zero, by Python's sort over lists of numbers."""
    kept = torch.zeros_like(g)
    n, o, h, w = g.shape
    if unified:
        totals = [sum(abs(float(v)) for v in g[:, c].flatten()) for c in range(o)]
        best = sorted(range(o), key=lambda c: -totals[c])[:k]
        kept[:, best] = g[:, best]
        return kept
    for i in range(n):
        for y in range(h):
            for x in range(w):
                best = sorted(range(o), key=lambda c: -abs(float(g[i, c, y, x])))[:k]
                kept[i, best, y, x] = g[i, best, y, x]
    return kept


@pytest.mark.parametrize("mode", ["unified", "per_example"])
@pytest.mark.parametrize("case", [{"padding": 1}, {"stride": (2, 1), "dilation": 2, "groups": 2}])
def test_convolution(parity, mode, case):
    layer = MePropConv2d(4, 6, 3, k=2, mode=mode, **case).double()
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    plain = F.conv2d(x, layer.weight, layer.bias, **case)
    g = torch.randn_like(y)
    leaves = [x, layer.weight]
    got = torch.autograd.grad(y, [*leaves, layer.bias], g)
    want = [*torch.autograd.grad(plain, leaves, chosen(g, 2, mode == "unified")), g.sum((0, 2, 3))]
    pairs = [(y, plain), *zip(got, want, strict=True)]
    error = max(float((a - b).detach().abs().max()) for a, b in pairs)
    parity("meprop_conv", error, 1e-12, oracle="selection in Python loops, then the dense gradient")
    if mode == "unified":
        assert int((got[1].flatten(1).abs().sum(1) > 0).sum()) == 2


@pytest.mark.parametrize("mode", ["unified", "per_example"])
def test_a_pointwise_convolution_is_the_linear_layer_over_positions(mode):
    conv = MePropConv2d(5, 7, 1, k=3, mode=mode).double()
    linear = MePropLinear(5, 7, k=3, mode=mode).double()
    linear.load_state_dict({n: v.flatten(1) if n == "weight" else v for n, v in conv.state_dict().items()})
    x, g = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 7, 3, 4, dtype=torch.float64)
    conv(x).backward(g)
    linear(x.movedim(1, -1)).backward(g.movedim(1, -1))
    torch.testing.assert_close(conv.weight.grad.flatten(1), linear.weight.grad)
    torch.testing.assert_close(conv.bias.grad, linear.bias.grad)


def test_all_channels_and_bad_convolutions():
    layer = MePropConv2d(3, 4, 3, k=4)
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))
    for bad in ({"k": 0}, {"mode": "none"}, {"padding": "same"}):
        with pytest.raises(ValueError, match="meprop"):
            MePropConv2d(3, 4, 3, **bad)


@pytest.mark.parametrize("mode", ["unified", "per_example"])
def test_swapped_into_a_backbone_and_compiled(mode):
    import zoo

    net = zoo.create("resnet18", conv={"meprop_conv": {"k": 8, "mode": mode}}, num_classes=2, layers=(1, 1, 1, 1))
    replaced = [m for m in net.modules() if isinstance(m, MePropConv2d)]
    assert len(replaced) >= 9
    block = torch.nn.Sequential(replaced[1], torch.nn.ReLU(), replaced[2])
    x, g = torch.randn(2, 64, 5, 5), torch.randn(2, 64, 5, 5)
    grads = []
    for run in (block, torch.compile(block, fullgraph=True, backend="aot_eager")):
        block.zero_grad()
        run(x).backward(g)
        grads.append([p.grad.clone() for p in block.parameters()])
    torch.testing.assert_close(*grads)
    assert int((grads[0][-1].flatten(1).abs().sum(1) > 0).sum()) == (8 if mode == "unified" else 64)
