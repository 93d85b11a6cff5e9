"""meProp against row-by-row selection, a worked example, limits, and work that shrinks with k."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.backward.meprop import MePropLinear


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
