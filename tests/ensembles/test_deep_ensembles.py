"""Deep ensembles: averaged probabilities, gradients as if alone, vectorised against one by one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.ensembles.deep_ensembles import DeepEnsemble, log_mean_probability


def net():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.mark.parametrize("vmapped", [False, True])
def test_mean_probability_and_lonely_gradients(parity, vmapped):
    members = [net().double() for _ in range(3)]
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 3, (7,))
    task = DeepEnsemble(members=copy.deepcopy(members), vmapped=vmapped)
    result = task(x, y)
    mean = sum(m(x).softmax(1) for m in members) / 3
    error = (result["output"].exp() - mean).abs().max().detach()
    result["loss"].backward()
    parameters = list(task.trainable_module.parameters())
    for k, member in enumerate(members):
        alone = torch.autograd.grad(F.cross_entropy(member(x), y), list(member.parameters()))
        for i, g in enumerate(alone):
            ours = parameters[i].grad[k] if vmapped else parameters[4 * k + i].grad
            error = torch.maximum(error, (ours - g).abs().max())
    parity("deep_ensembles", error, 1e-12, oracle="members one by one: mean softmax, each member's own gradient")


def test_members_differ_and_equal_members_are_one():
    task = DeepEnsemble(net(), num_members=3)
    first, second, _ = task.trainable_module.nets
    assert not torch.equal(first[0].weight, second[0].weight)
    one = net()
    x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
    same = DeepEnsemble(members=[one, one])(x, y)["output"]
    assert torch.allclose(same, one(x).log_softmax(1), atol=1e-6)


def test_jensen_and_extremes():
    z, y = torch.randn(5, 40, 3), torch.randint(0, 3, (40,))
    together = F.nll_loss(log_mean_probability(z), y)
    assert together <= sum(F.cross_entropy(m, y) for m in z) / 5
    far = torch.tensor([[[500.0, -500.0]], [[-500.0, 500.0]]])
    assert torch.allclose(log_mean_probability(far), torch.full((1, 2), 0.5).log())


def test_vmapped_state_and_bad_input():
    task = DeepEnsemble(net(), 4, vmapped=True)
    other = DeepEnsemble(net(), 4, vmapped=True)
    other.load_state_dict(task.state_dict())
    x = torch.randn(2, 4)
    assert torch.equal(task.trainable_module(x), other.trainable_module(x))
    assert torch.equal(copy.deepcopy(task).trainable_module(x), task.trainable_module(x))
    assert sum(p.numel() for p in task.parameters()) == 4 * sum(p.numel() for p in net().parameters())
    with pytest.raises(ValueError, match="num_members"):
        DeepEnsemble(net(), 0)
