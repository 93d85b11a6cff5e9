"""Meta-Weight-Net: its meta-gradient against double backward and finite differences; state; constant weights."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from zoo.noisy_labels.meta_weight_net import MetaWeightNet


def data(dtype=torch.float64):
    x, y = torch.randn(9, 5, dtype=dtype), torch.randint(0, 3, (9,))
    return x, y, (torch.randn(6, 5, dtype=dtype), torch.randint(0, 3, (6,)))


def clean_loss(task, x, y, meta, lr):
    """The loss after the virtual step, written out; differentiable in the weight net's parameters."""
    params = dict(task.trainable_module.named_parameters())
    losses = F.cross_entropy(functional_call(task.trainable_module, params, (x,)), y, reduction="none")
    v = task.weight_net(losses.detach())
    v = v / v.sum() if task.normalize else v / len(v)
    slopes = torch.autograd.grad((v * losses).sum(), list(params.values()), create_graph=True)
    moved = {n: p - lr * g for (n, p), g in zip(params.items(), slopes, strict=True)}
    return F.cross_entropy(functional_call(task.trainable_module, moved, (meta[0],)), meta[1])


@pytest.mark.parametrize("normalize", [False, True])
def test_meta_gradient(parity, normalize):
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    task = MetaWeightNet(model, hidden=6, normalize=normalize).double()
    x, y, meta = data()
    losses = F.cross_entropy(model(x), y, reduction="none")
    got = task.meta_gradient(x, y, losses, meta, 0.5)
    weights = list(task.weight_net.parameters())
    expected = torch.autograd.grad(clean_loss(task, x, y, meta, 0.5), weights)
    apart = task.meta_gradient(x, y, losses.detach(), meta, 0.5)  # with a virtual pass of its own
    error = max((a - b).abs().max() for a, b in zip((*got, *apart), (*expected, *expected), strict=True))
    bias, h = weights[-1], 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            bias += sign * h
        values.append(float(clean_loss(task, x, y, meta, 0.5)))
        with torch.no_grad():
            bias -= sign * h
    assert float(got[-1]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)
    parity("meta_weight_net", error, 1e-12, oracle="double backward through the explicit virtual step")


def test_constant_weights_are_scaled_cross_entropy():
    task = MetaWeightNet(nn.Linear(5, 3), meta_lr=0.0, meta_weight_decay=0.0, normalize=False)
    nn.init.zeros_(task.weight_net[2].weight)
    nn.init.zeros_(task.weight_net[2].bias)
    x, y, meta = data(torch.float32)
    loss = task(x, y, meta_batch=meta, lr=0.1)["loss"]
    assert torch.allclose(loss, 0.5 * F.cross_entropy(task.trainable_module(x), y))


def test_weights_of_a_batch_sum_to_one_by_default():
    """As in the authors' first script; ``normalize=False`` gives V / N, as the paper's equations do, and a sum of about one half."""
    torch.manual_seed(0)
    x, y, meta = data(torch.float32)
    sums = {}
    for name, given in (("default", {}), ("mean", {"normalize": False})):
        torch.manual_seed(1)
        task = MetaWeightNet(nn.Linear(5, 3), **given)
        out = task(x, y, meta_batch=meta, lr=0.1)
        sums[name] = float(out["weights"].sum())
        with torch.no_grad():
            losses = F.cross_entropy(task.trainable_module(x), y, reduction="none")
            v = task.weight_net(losses)
            expected = v / v.sum() if name == "default" else v / len(v)
        assert torch.allclose(out["weights"], expected, atol=1e-6)
        assert torch.allclose(out["loss"], (expected * losses).sum(), atol=1e-6)
    assert sums["default"] == pytest.approx(1, abs=1e-6)
    assert 0.3 < sums["mean"] < 0.7


class Noisy(nn.Module):
    """BatchNorm and dropout, so that a second pass with other masks, or one that moves the statistics, shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


def test_shared_and_separate_pass_agree(monkeypatch):
    """One pass for virtual and real step, or one each: the same masks, statistics, weights and gradients."""
    torch.manual_seed(3)
    task = MetaWeightNet(Noisy().double(), hidden=8, meta_lr=0.1).double()
    twin = copy.deepcopy(task)
    twin.trainable_module.shares_batch = True
    x, y, meta = data()
    for seed in range(3):
        found = []
        for one in (task, twin):
            torch.manual_seed(seed)
            out = one(x, y, meta_batch=meta, lr=0.5)
            one.zero_grad()
            out["loss"].backward()
            found.append((out["loss"].detach(), torch.rand(()), *(p.grad for p in one.trainable_module.parameters())))
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*found, strict=True))
        states = (task.state_dict(), twin.state_dict())
        assert all(torch.allclose(states[0][k], v, atol=1e-12) for k, v in states[1].items() if "extra" not in k)
    torch.manual_seed(2)
    assert not torch.equal(found[0][1], torch.rand(())), "the next step would draw the same masks"
    assert int(task.trainable_module.layers[1].num_batches_tracked) == 3


def test_layer_by_layer_equals_forward_mode():
    """Where samples do not see each other: the same weights, gradients, steps of V and dropout masks."""
    torch.manual_seed(4)
    layers = (nn.Linear(5, 16), nn.LayerNorm(16), nn.Tanh(), nn.Dropout(0.5), nn.GroupNorm(4, 16), nn.Linear(16, 3))
    found = {}
    for way in (True, False):
        torch.manual_seed(5)
        net = copy.deepcopy(nn.Sequential(*layers))
        task = MetaWeightNet(net, hidden=8, meta_lr=0.1, layerwise=way, num_samples=9).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        found[way] = []
        for seed in range(4):
            torch.manual_seed(seed)
            x, y, meta = data()
            out = task(x, y, meta_batch=meta, lr=0.5, index=torch.arange(9))
            optimizer.zero_grad()
            out["loss"].backward()
            found[way] += [out["loss"].detach(), out["weights"], out["output"].detach(), torch.rand(())]
            found[way] += [p.grad.clone() for p in net.parameters()]
            optimizer.step()
        found[way] += [*task.weight_net.parameters(), task.suspects()]
        assert list(task.layerwise.answers.values()) == [True] * way
    for a, b in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_state_holds_net_and_optimizer():
    task = MetaWeightNet(nn.Linear(5, 3), hidden=4)
    x, y, meta = data(torch.float32)
    task(x, y, meta_batch=meta, lr=0.1)
    twin = copy.deepcopy(task)
    fresh = MetaWeightNet(nn.Linear(5, 3), hidden=4)
    fresh.load_state_dict(task.state_dict())
    for other in (twin, fresh):
        other(x, y, meta_batch=meta, lr=0.1)
    task(x, y, meta_batch=meta, lr=0.1)
    for other in (twin, fresh):
        for a, b in zip(task.weight_net.parameters(), other.weight_net.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)  # without Adam's moments they would differ by its step, 1e-3
    assert all(p.grad is None for p in task.weight_net.parameters())
    before = [p.clone() for p in task.weight_net.parameters()]
    task.eval()(x, y, meta_batch=meta, lr=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, task.weight_net.parameters(), strict=True))


def test_missing_input():
    x, y, meta = data(torch.float32)
    with pytest.raises(ValueError, match="lr="):
        MetaWeightNet(nn.Linear(5, 3))(x, y, meta_batch=meta)
