"""MAE against the L1 distance in a plain loop, its symmetry and its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.noisy_labels.mae_loss import MAELoss


def test_plain_loop(parity):
    z, y = torch.randn(9, 5, dtype=torch.float64, requires_grad=True), torch.randint(0, 5, (9,))
    expected = []
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        expected.append(sum(abs(math.exp(v) / total - (k == label)) for k, v in enumerate(row)))
    got = MAELoss("none")(z, y)
    error = (got.detach() - torch.tensor(expected, dtype=torch.float64)).abs().max()
    p, rows = z.detach().softmax(1), torch.arange(9)
    onehot = torch.zeros_like(p)
    onehot[rows, y] = 1
    closed = 2 * p[rows, y][:, None] * (p - onehot)
    error = torch.maximum(error, (torch.autograd.grad(got.sum(), z)[0] - closed).abs().max())
    parity("mae_loss", error, 1e-12, oracle="L1 distance to the one-hot label in a plain loop; closed-form gradient")


def test_symmetric():
    z = torch.randn(4, 7, dtype=torch.float64)
    total = sum(MAELoss("none")(z, torch.full((4,), k)) for k in range(7))
    assert torch.allclose(total, torch.full((4,), 12.0, dtype=torch.float64))


def test_reductions_and_bad_input():
    z, y = torch.randn(6, 3), torch.randint(0, 3, (6,))
    each = MAELoss("none")(z, y)
    assert torch.allclose(MAELoss("sum")(z, y), each.sum())
    assert torch.allclose(MAELoss()(z, y), each.mean())
    with pytest.raises(ValueError, match="reduction"):
        MAELoss("median")
