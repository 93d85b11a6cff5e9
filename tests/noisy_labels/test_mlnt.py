"""MLNT: limits that are other methods, first against second order by finite differences, teacher and ramp."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.mlnt import MLNT, neighbour_labels


def small():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def batch():
    return torch.randn(12, 4, dtype=torch.float64), torch.randint(0, 3, (12,))


def test_second_order_gradient(parity):
    """The gradient of J through the virtual step against central differences of J itself."""
    task = MLNT(small(), num_sets=2, meta_lr=0.5, neighbours=3)
    for p in task.teacher.parameters():
        p.add_(0.3 * torch.randn_like(p))
    x, y = batch()

    def value():
        torch.manual_seed(7)
        return task.consistency(x, y)

    weight = task.trainable_module[2].weight
    (got,) = torch.autograd.grad(value(), weight)
    expected, h = torch.zeros_like(got), 1e-6
    for i in range(3):
        for j in range(6):
            with torch.no_grad():
                weight[i, j] += h
                up = float(value().detach())
                weight[i, j] -= 2 * h
                down = float(value().detach())
                weight[i, j] += h
            expected[i, j] = (up - down) / (2 * h)
    error = (got - expected).abs().max()
    task.first_order = True
    (first,) = torch.autograd.grad(value(), weight)
    assert (first - expected).abs().max() > 1e-3
    parity("mlnt", error, 1e-7, oracle="central differences of the consistency loss")


def test_limits():
    x, y = batch()
    task = MLNT(small(), num_sets=0)
    assert torch.allclose(task(x, y)["loss"], F.cross_entropy(task.trainable_module(x), y))
    task = MLNT(small(), num_sets=3, meta_lr=0.0, neighbours=3)
    for p in task.teacher.parameters():
        p.mul_(0.5)
    teacher, student = task.teacher(x).softmax(1), task.trainable_module(x).log_softmax(1)
    expected = F.kl_div(student, teacher, reduction="batchmean")  # mean teacher
    assert torch.allclose(task.consistency(x, y), expected)


def test_neighbour_labels():
    embedding = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    target = torch.tensor([0, 1, 2, 3])
    assert neighbour_labels(embedding, target, 1.0, 1).tolist() == [1, 0, 3, 2]
    assert torch.equal(neighbour_labels(embedding, target, 0.0, 1), target)
    assert int((neighbour_labels(embedding, target, 0.5, 1) != target).sum()) == 2


def test_teacher_ramp_and_buffers():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    task = MLNT(model, num_sets=1, gamma=0.9, ramp=(1, 3), neighbours=3, num_samples=12).train()
    x, y = torch.randn(12, 4), torch.randint(0, 3, (12,))
    assert not task.teacher.training
    strengths = []
    for _ in range(4):
        strengths.append(float(task.strength()))
        task.after_step()
    assert strengths == pytest.approx([0.0, math.exp(-5), math.exp(-5 / 4), 1.0])
    old, new = task.teacher[0].weight.clone(), model[0].weight + 1
    with torch.no_grad():
        model[0].weight.copy_(new)
    task.after_step()
    assert torch.allclose(task.teacher[0].weight, 0.9 * old + 0.1 * new)
    task(x, y, index=torch.arange(12))
    assert int(model[1].num_batches_tracked) == 1  # virtual passes leave the statistics alone
    assert len(task.suspects()) == 12
    assert not any(p.requires_grad for p in task.teacher.parameters())
    with pytest.raises(ValueError, match="mlnt needs"):
        MLNT(model, gamma=2.0)
