"""Prototypical networks: an episode in loops, the linear-classifier identity, the sampler."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.long_tail.prototypical_networks import EpisodeSampler, PrototypicalNetworks, prototypes


def test_episode_in_loops(parity):
    f = nn.Linear(4, 5).double()
    task = PrototypicalNetworks(f, num_classes=3, support=2)
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.tensor([7] * 4 + [1] * 4 + [3] * 4)
    result = task(x, y)
    z = f(x)
    means = [(z[4 * k] + z[4 * k + 1]) / 2 for k in range(3)]
    total = torch.zeros((), dtype=torch.float64)
    for k in range(3):
        for n in (4 * k + 2, 4 * k + 3):
            d = [((z[n] - m) ** 2).sum() for m in means]
            total = total + d[k] + torch.stack([-v for v in d]).exp().sum().log()
    error = (result["loss"] - total / 6).abs().detach()
    pair = [torch.autograd.grad(v, f.weight, retain_graph=True)[0] for v in (result["loss"], total / 6)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("prototypical_networks", error, 1e-12, oracle="one episode in plain loops")


def test_squared_distance_is_a_linear_classifier():
    """Section 2.4: weights 2 c_k and biases -|c_k|^2 give the same probabilities."""
    task = PrototypicalNetworks(nn.Identity(), num_classes=3, support=1)
    f, c = torch.randn(5, 4), torch.randn(3, 4)
    linear = f @ (2 * c).T - c.square().sum(1)
    assert torch.allclose(task.logits(f, c).softmax(1), linear.softmax(1), atol=1e-6)
    cosine = PrototypicalNetworks(nn.Identity(), 3, 1, "cosine").logits(f, 7 * c)
    assert float(cosine[0, 0]) == pytest.approx(float(f[0] @ c[0] / (f[0].norm() * c[0].norm())), abs=1e-6)


def test_prototypes_of_uneven_classes():
    f, y = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    c = prototypes(f, y, 3)
    assert c[0].item() == 2
    assert math.isnan(c[1].item())
    assert c[2].item() == 5


def test_sampler():
    labels = torch.tensor([0] * 9 + [1] * 9 + [2] * 9 + [3] * 2)
    sampler = EpisodeSampler(labels, way=2, shot=3, queries=4, episodes=5)
    assert len(sampler) == 5
    for batch in sampler:
        groups = labels[torch.tensor(batch)].view(2, 7)
        assert (groups == groups[:, :1]).all()
        assert 3 not in groups
        assert len(set(batch)) == 14
    with pytest.raises(ValueError, match="asked for"):
        EpisodeSampler(labels, way=4, shot=3, queries=4)


def test_bad_input():
    with pytest.raises(ValueError, match="episode holds"):
        PrototypicalNetworks(nn.Identity(), 3, 2)(torch.randn(6, 2), torch.zeros(6))
    with pytest.raises(ValueError, match="metric"):
        PrototypicalNetworks(nn.Identity(), metric="manhattan")
