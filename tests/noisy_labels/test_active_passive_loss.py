"""NCE + RCE / MAE in plain loops, the constant sums over labels that make them robust."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.noisy_labels.active_passive_loss import ActivePassiveLoss


def plain_loop(z, y, alpha, beta, passive):
    losses = []
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        p = [math.exp(v) / total for v in row]
        ce = [-math.log(v) for v in p]
        rce = -sum(v * math.log(1.0 if k == label else 1e-4) for k, v in enumerate(p))
        losses.append(alpha * ce[label] / sum(ce) + beta * (rce if passive == "rce" else 1 - p[label]))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("passive", ["rce", "mae"])
def test_plain_loop(parity, passive):
    z, y = torch.randn(12, 6, dtype=torch.float64), torch.randint(0, 6, (12,))
    got = ActivePassiveLoss(10.0, 0.1, passive, reduction="none")(z, y)
    error = (got - plain_loop(z, y, 10.0, 0.1, passive)).abs().max()
    parity("active_passive_loss", error, 1e-12, oracle="plain loop over samples and classes")


def test_gradient_by_finite_differences():
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: ActivePassiveLoss()(v, torch.tensor([0, 1, 2, 3])), (z,))


def test_each_part_is_symmetric():
    z = torch.randn(5, 6, dtype=torch.float64)
    for loss, constant in (
        (ActivePassiveLoss(1, 0, reduction="none"), 1.0),
        (ActivePassiveLoss(0, 1, "mae", reduction="none"), 5.0),
        (ActivePassiveLoss(0, 1, "rce", reduction="none"), 5.0 * -math.log(1e-4)),
    ):
        total = sum(loss(z, torch.full((5,), k)) for k in range(6))
        assert torch.allclose(total, torch.full((5,), constant, dtype=torch.float64))


def test_bad_input():
    with pytest.raises(ValueError, match="passive is one of"):
        ActivePassiveLoss(passive="gce")
    with pytest.raises(ValueError, match="A < 0"):
        ActivePassiveLoss(A=1.0)
