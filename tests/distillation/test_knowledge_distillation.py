"""Distillation in timm's task against the written-out loss, the high-temperature limit, the teacher left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.distillation.knowledge_distillation import KnowledgeDistillation


def nets():
    return nn.Linear(6, 4).double(), nn.Linear(6, 4).double()


def test_written_out(parity):
    student, teacher = nets()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.randint(0, 4, (8,))
    T, a = 3.0, 0.7
    result = KnowledgeDistillation(student, teacher, T, a)(x, y)
    zs, zt = student(x), teacher(x).detach()
    soft = -(zt / T).softmax(1) * ((zs / T).log_softmax(1) - (zt / T).log_softmax(1))
    expected = (1 - a) * F.cross_entropy(zs, y) + a * T * T * soft.sum(1).mean()
    error = (result["loss"] - expected).abs().detach()
    (got,) = torch.autograd.grad(result["kd_loss"], result["output"], retain_graph=True)
    closed = T * ((zs / T).softmax(1) - (zt / T).softmax(1)) / 8
    error = torch.maximum(error, (got - closed).abs().max())
    parity("knowledge_distillation", error, 1e-12, oracle="the loss written out; soft gradient T (q_s - q_t)")


def test_limits():
    student, teacher = nets()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.randint(0, 4, (8,))
    result = KnowledgeDistillation(student, teacher, 1e4, 1.0)(x, y)
    (got,) = torch.autograd.grad(result["loss"], result["output"])
    centred = [z - z.mean(1, keepdim=True) for z in (student(x), teacher(x))]
    assert torch.allclose(got, (centred[0] - centred[1]) / 4 / 8, atol=1e-4)  # logit matching
    assert torch.allclose(KnowledgeDistillation(student, teacher, 4, 0.0)(x, y)["loss"], F.cross_entropy(student(x), y))
    assert float(KnowledgeDistillation(student, student, 4, 1.0)(x, y)["loss"]) == pytest.approx(0, abs=1e-12)


def test_teacher_is_frozen_and_student_unmarked():
    student = nn.Sequential(nn.Linear(6, 4))
    teacher = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    task = KnowledgeDistillation(student, teacher).train()
    assert not teacher.training
    task(torch.randn(4, 6), torch.tensor([0, 1, 2, 3]))["loss"].backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student[0].weight.grad is not None
    assert not hasattr(student, "pretrained_cfg")


def test_different_normalisation_is_converted():
    class Net(nn.Module):
        def __init__(self, mean):
            super().__init__()
            self.pretrained_cfg = {"mean": mean, "std": (0.5, 0.5, 0.5)}
            self.fc = nn.Linear(3 * 4, 2)

        def forward(self, x):
            return self.fc(x.flatten(1))

    student, teacher = Net((0.0, 0.0, 0.0)), Net((0.5, 0.5, 0.5))
    x = torch.randn(2, 3, 2, 2)
    task = KnowledgeDistillation(student, teacher, 2.0, 1.0)
    zt = teacher((x * 0.5 - 0.5) / 0.5).detach()
    expected = 4 * F.kl_div((student(x) / 2).log_softmax(1), (zt / 2).softmax(1), reduction="batchmean")
    assert torch.allclose(task(x, torch.tensor([0, 1]))["loss"], expected, atol=1e-6)


def test_bad_input():
    for args in ((0.0,), (4.0, 1.5)):
        with pytest.raises(ValueError, match="temperature"):
            KnowledgeDistillation(*nets(), *args)
