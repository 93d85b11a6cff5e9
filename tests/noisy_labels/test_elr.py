"""ELR against a plain loop over two visits, its closed-form gradient, its state and its ranking."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from zoo.noisy_labels.elr import ELR


def test_plain_loop_over_two_visits(parity):
    x, y, index = torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([7, 0, 3, 2, 5])
    task = ELR(nn.Linear(4, 3).double(), 8, 3, beta=0.7, lam=3.0).double()
    t = [[0.0] * 3 for _ in range(8)]
    error = torch.zeros((), dtype=torch.float64)
    for _ in range(2):
        result = task(x, y, index=index)
        z = result["output"].detach()
        total, slope = 0.0, torch.zeros(5, 3, dtype=torch.float64)
        for n, (row, label, i) in enumerate(zip(z.tolist(), y.tolist(), index.tolist(), strict=True)):
            e = [math.exp(v) for v in row]
            p = [v / sum(e) for v in e]
            t[i] = [0.7 * a + 0.3 * b for a, b in zip(t[i], p, strict=True)]
            inner = sum(a * b for a, b in zip(t[i], p, strict=True))
            total += (-math.log(p[label]) + 3 * math.log(1 - inner)) / 5
            for j in range(3):
                push = p[j] / (1 - inner) * sum((t[i][k] - t[i][j]) * p[k] for k in range(3))
                slope[n, j] = (p[j] - (j == label) + 3 * push) / 5
        error = torch.maximum(error, (result["loss"].detach() - total).abs())
        got = torch.autograd.grad(result["loss"], result["output"])[0]
        error = torch.maximum(error, (got - slope).abs().max())
    assert torch.allclose(task.targets, torch.tensor(t, dtype=torch.float64))
    parity("elr", error, 1e-10, oracle="plain loop; gradient p_j / (1 - <t, p>) sum_k (t_k - t_j) p_k")


def test_targets_are_state_and_rank_suspects():
    task = ELR(nn.Linear(4, 3), 6, 3)
    x, y = torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
    task(x, y, index=torch.tensor([5, 1, 0, 2]))
    twin = copy.deepcopy(task)
    assert torch.equal(twin.targets, task.targets)
    fresh = ELR(nn.Linear(4, 3), 6, 3)
    fresh.load_state_dict(task.state_dict())
    assert torch.equal(fresh.targets, task.targets)
    ranked = task.suspects()
    assert set(ranked.tolist()) == {0, 1, 2, 5}
    label = dict(zip([5, 1, 0, 2], y.tolist(), strict=True))
    belief = [float(task.targets[i, label[i]]) for i in ranked.tolist()]
    assert belief == sorted(belief)


def test_fitted_sample_is_finite():
    task = ELR(nn.Identity(), 2, 2)
    task.device = torch.device("cpu")
    x = torch.tensor([[200.0, -200.0]], requires_grad=True)
    for _ in range(200):
        loss = task(x, torch.tensor([0]), index=torch.tensor([0]))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match="index="):
        ELR(nn.Linear(2, 2), 4, 2)(torch.randn(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="beta"):
        ELR(nn.Linear(2, 2), 4, 2, beta=1.0)
