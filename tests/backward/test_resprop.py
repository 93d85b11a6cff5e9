"""ReSprop against loops over entries, its limits, the controller, and that evaluation is plain."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from zoo.backward.resprop import GradientReuse, ReSpropConv2d, ReSpropLinear, set_reuse


def mixed(g, previous, tau):
    out = g.clone()
    for b in range(g.shape[0]):
        for i, (new, old) in enumerate(zip(g[b].flatten().tolist(), previous.flatten().tolist(), strict=True)):
            out[b].view(-1)[i] = new if abs(new - old) > tau else old
    return out


def test_entry_by_entry_linear(parity):
    layer = ReSpropLinear(3, 4, reuse=0.5, threshold=0.4).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    g1, g2 = torch.randn(2, 5, 4, dtype=torch.float64)
    layer(x).backward(g1)  # the first step is exact and stores sample 0
    first = layer.weight.grad.clone()
    layer.zero_grad()
    x.grad = None
    layer(x).backward(g2)
    want = mixed(g2, g1[0], 0.4)
    errors = [
        first - g1.T @ x,
        layer.weight.grad - want.T @ x,
        x.grad - want @ layer.weight,
        layer.bias.grad - g2.sum(0),
    ]
    parity(
        "resprop",
        max(float(e.detach().abs().max()) for e in errors),
        1e-12,
        oracle="loops over entries, exact bias gradient",
    )
    assert not torch.allclose(want, g2)


def test_entry_by_entry_convolution(parity):
    layer = ReSpropConv2d(2, 3, 3, stride=2, padding=1, reuse=0.5, threshold=0.5).double()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    g1, g2 = torch.randn(2, 2, 3, 3, 3, dtype=torch.float64)
    layer(x).backward(g1)
    layer.zero_grad()
    x.grad = None
    layer(x).backward(g2)
    y = F.conv2d(x, layer.weight, None, 2, 1)
    gx, gw = torch.autograd.grad(y, [x, layer.weight], mixed(g2, g1[0], 0.5))
    errors = [x.grad - gx, layer.weight.grad - gw, layer.bias.grad - g2.sum((0, 2, 3))]
    parity(
        "resprop_conv",
        max(float(e.abs().max()) for e in errors),
        1e-12,
        oracle="loops over entries, exact bias gradient",
    )


def test_no_reuse_and_reset_and_other_shapes_are_exact():
    x, g = torch.randn(4, 3), torch.randn(4, 5)
    for change in ("reuse", "reset", "shape"):
        layer = ReSpropLinear(3, 5, reuse=0.9, threshold=1e6)
        layer(x).backward(torch.randn(4, 5))
        layer.zero_grad()
        if change == "reuse":
            set_reuse(layer, 0.0)
        elif change == "reset":
            layer.gradient.reset()
        else:
            layer.gradient.previous = torch.zeros(6)
        layer(x).backward(g)
        assert torch.allclose(layer.weight.grad, g.T @ x, atol=1e-6)
    layer = ReSpropLinear(3, 5, reuse=0.9, threshold=1e6)
    layer(x).backward(g)
    layer.zero_grad()
    layer(x).backward(torch.randn(4, 5))  # with an endless threshold every sample takes the stored gradient
    assert torch.allclose(layer.weight.grad, g[0].expand(4, 5).T @ x, atol=1e-5)


@pytest.mark.parametrize("reuse", [0.2, 0.5, 0.9])
def test_controller_reaches_its_share(reuse):
    store = GradientReuse(reuse)
    shares = []
    for _ in range(60):
        store.mix(torch.randn(64, 100))
        shares.append(float(store.survived))
    # Doubling and halving hold the share between two neighbouring powers of two of the threshold.
    assert min(shares[-10:]) - 0.02 <= 1 - reuse <= max(shares[-10:]) + 0.02


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        ReSpropConv2d(3, 4, 3, padding=1, reuse=0.5, threshold=1e-3),
        torch.nn.BatchNorm2d(4),
        ReSpropConv2d(4, 4, 3, stride=2, padding=1, reuse=0.3, threshold=1e-3),
        torch.nn.Flatten(),
        ReSpropLinear(64, 5, reuse=0.5, threshold=1e-3),
    )


def trained(model, call):
    """Losses of six steps, one with a short batch and two after the share was changed."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for step in range(6):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4 if step == 2 else 6, 3, 8, 8, generator=generator)
        if step == 4:
            set_reuse(model, 0.8)
        loss = F.cross_entropy(call(x), torch.randint(0, 5, (len(x),), generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_training_compiles_with_equal_numbers(backend):
    torch._dynamo.reset()
    plain, model = network(), network()
    want = trained(plain, plain)
    got = trained(model, torch.compile(model, backend=backend, fullgraph=True))
    for a, b in zip(want, got, strict=True):
        torch.testing.assert_close(a, b)
    for (name, a), b in zip(plain.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, name=name: f"{name}: {m}")
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    survived = [m.survived for m in model.modules() if isinstance(m, GradientReuse)]
    assert len(survived) == 3
    assert all(0 < s < 1 for s in survived)  # some of each gradient was reused


def test_copies_keep_apart_in_compiled_graphs():
    """A copy has a state of its own: training it leaves the original's stored gradient alone."""
    torch._dynamo.reset()
    layer = ReSpropLinear(3, 2, reuse=0.5, threshold=10.0)
    torch.compile(layer, backend="aot_eager", fullgraph=True)(torch.randn(2, 3)).sum().backward()
    before = layer.gradient.previous.clone()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.gradient.number != layer.gradient.number
        compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
        (compiled(torch.randn(2, 3)) * 7).sum().backward()
        assert torch.equal(layer.gradient.previous, before)
        assert torch.equal(other.gradient.previous, torch.full((2,), 7.0))
    assert "gradient.previous" not in layer.state_dict()
    assert layer.double().gradient.previous.dtype == torch.float64


def test_evaluation_copies_and_pickles():
    layer = ReSpropLinear(3, 2, reuse=0.5, threshold=10.0)
    x = torch.randn(2, 3)
    layer(x).sum().backward()
    copied = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    assert torch.equal(copied.gradient.previous, layer.gradient.previous)
    layer.zero_grad()
    layer.eval()
    layer(x).square().sum().backward()
    want = 2 * F.linear(x, layer.weight, layer.bias)
    assert torch.allclose(layer.weight.grad, want.detach().T @ x, atol=1e-6)


@pytest.mark.parametrize("bad", [{"reuse": 1.0}, {"reuse": -0.1}, {"threshold": 0.0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="resprop needs"):
        ReSpropLinear(3, 4, **bad)
    with pytest.raises(ValueError, match="resprop needs"):
        set_reuse(torch.nn.Linear(1, 1), 1.0)
