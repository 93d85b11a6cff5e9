"""mixup against cross-entropy with the explicitly mixed soft label."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.mixup import Mixup


def test_soft_label(parity):
    model = nn.Linear(4, 3).double()
    task = Mixup(model, alpha=0.7)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 3, (8,))
    torch.manual_seed(5)
    result = task(x, y)
    torch.manual_seed(5)
    lam, partner = task.draw(8, x.device)
    lam = lam.double()
    onehot = F.one_hot(y, 3).double()
    expected = F.cross_entropy(model(lam * x + (1 - lam) * x[partner]), lam * onehot + (1 - lam) * onehot[partner])
    error = (result["loss"] - expected).abs().detach()
    pair = [torch.autograd.grad(v, model.weight)[0] for v in (result["loss"], expected)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("mixup", error, 1e-10, oracle="cross-entropy against the mixed one-hot label")


def test_draws_follow_beta_and_evaluation_is_plain():
    task = Mixup(nn.Linear(2, 2), alpha=0.4)
    draws = torch.stack([task.draw(2, torch.device("cpu"))[0] for _ in range(4000)])
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(draws.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)
    task.eval()
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    assert torch.equal(task(x, y)["loss"], F.cross_entropy(task.trainable_module(x), y))
    with pytest.raises(ValueError, match="alpha > 0"):
        Mixup(nn.Linear(2, 2), alpha=0)
