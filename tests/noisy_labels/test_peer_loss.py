"""Peer loss against two separate cross-entropies in a loop; ramp, missing input, ranking."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.peer_loss import PeerLoss


def test_two_cross_entropies(parity):
    model = nn.Linear(4, 3).double()
    task = PeerLoss(model, alpha=0.7, warmup=0)
    x, x1 = torch.randn(6, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    y, y2 = torch.randint(0, 3, (6,)), torch.randint(0, 3, (5,))
    result = task(x, y, peer=(x1, y2), epoch=0)
    expected = F.cross_entropy(model(x), y) - 0.7 * F.cross_entropy(model(x1), y2)
    error = (result["loss"] - expected).abs().detach()
    pair = [torch.autograd.grad(v, model.weight, retain_graph=True)[0] for v in (result["loss"], expected)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("peer_loss", error, 1e-12, oracle="difference of two cross-entropies of separate passes")
    assert result["output"].shape == (6, 3)


def test_warmup_and_missing_input():
    task = PeerLoss(nn.Linear(4, 3), alpha=1.0, warmup=4)
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    start, half, full = (task(x, y, peer=(x, y.flip(0)), epoch=e)["loss"] for e in (0, 2, 9))
    assert torch.allclose(start, F.cross_entropy(task.trainable_module(x), y))
    assert torch.allclose(half, (start + full) / 2)
    with pytest.raises(ValueError, match="peer="):
        task(x, y, epoch=1)
    with pytest.raises(ValueError, match="epoch="):
        task(x, y, peer=(x, y))


def test_suspects():
    task = PeerLoss(nn.Linear(2, 2), num_samples=5)
    with torch.no_grad():
        task.trainable_module.weight.copy_(torch.tensor([[5.0, -5.0], [-5.0, 5.0]]))
    x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    with pytest.raises(RuntimeError, match="num_samples"):
        task.suspects()
    task(x, y, peer=(x, y), epoch=9, index=torch.tensor([3, 1]))
    assert task.suspects().tolist() == [1, 3]
    assert task.suspects(1).tolist() == [1]
    with pytest.raises(ValueError, match="alpha"):
        PeerLoss(nn.Linear(2, 2), alpha=-1)
