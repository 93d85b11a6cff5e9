"""JoCoR against torch's KL divergence and explicit selection by the joint loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.jocor import JoCoR


def test_joint_loss(parity):
    f, g = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    task = JoCoR(f, g, forget_rate=0.4, lam=0.7)
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(0, 3, (10,))
    a, b = f(x), g(x)
    kl = [F.kl_div(v.log_softmax(1), u.softmax(1), reduction="none").sum(1) for u, v in ((a, b), (b, a))]
    joint = 0.3 * sum(F.cross_entropy(z, y, reduction="none") for z in (a, b)) + 0.7 * (kl[0] + kl[1])
    expected = joint.sort().values[:6].mean()
    result = task(x, y, epoch=20)
    error = (result["loss"] - expected).abs().detach()
    for net in (f, g):
        pair = [torch.autograd.grad(v, net.weight, retain_graph=True)[0] for v in (result["loss"], expected)]
        error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("jocor", error, 1e-12, oracle="torch kl_div in both directions, mean of the smallest joint losses")


def test_lam_and_ranking():
    task = JoCoR(nn.Linear(2, 2), lam=0.0, forget_rate=0.0, num_samples=4)
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    expected = sum(F.cross_entropy(net(x), y) for net in task.trainable_module.nets)
    assert torch.allclose(task(x, y, epoch=3, index=torch.arange(4))["loss"], expected)
    assert sorted(task.suspects().tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="lam"):
        JoCoR(nn.Linear(2, 2), lam=1.5)
