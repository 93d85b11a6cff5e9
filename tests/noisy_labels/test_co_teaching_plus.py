"""Co-teaching+ against explicit selection among disagreements; sample 0 counts, agreement gives no gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.co_teaching_plus import CoTeachingPlus, smallest_among


def test_selection_among_disagreements(parity):
    f, g = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    task = CoTeachingPlus(f, g, forget_rate=0.4, warmup=3)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    losses = [F.cross_entropy(net(x), y, reduction="none") for net in (f, g)]
    differ = [i for i in range(30) if int(f(x)[i].argmax()) != int(g(x)[i].argmax())]
    keep = math.ceil(0.8 * len(differ))
    chosen = [sorted(differ, key=lambda i, row=row: float(row[i]))[:keep] for row in losses]
    expected = (sum(losses[0][i] for i in chosen[1]) + sum(losses[1][i] for i in chosen[0])) / keep
    result = task(x, y, epoch=5)
    error = (result["loss"] - expected).abs().detach()
    pair = [torch.autograd.grad(v, f.weight, retain_graph=True)[0] for v in (result["loss"], expected)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    assert 0 < keep < len(differ)
    parity("co_teaching_plus", error, 1e-12, oracle="sorting the other network's losses among disagreements, in a loop")


def test_sample_zero_and_empty_selection():
    losses = torch.tensor([0.1, 0.2, 0.3])
    assert smallest_among(losses, torch.tensor([True, False, True]), 0.5).tolist() == [1.0, 0.0, 0.0]
    assert not smallest_among(losses, torch.zeros(3, dtype=torch.bool), 1.0).any()
    net = nn.Linear(2, 2)
    task = CoTeachingPlus(net, net, warmup=0)
    task(torch.randn(4, 2), torch.tensor([0, 1, 0, 1]), epoch=9)["loss"].backward()
    assert not net.weight.grad.any()


def test_warmup_is_cross_entropy_of_both():
    task = CoTeachingPlus(nn.Linear(2, 2), warmup=2)
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    expected = sum(F.cross_entropy(net(x), y) for net in task.trainable_module.nets)
    assert torch.allclose(task(x, y, epoch=1)["loss"], expected)
