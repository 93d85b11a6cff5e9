"""VAT: the analytic direction of a linear model, the divergence, and everything that must stay untouched."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.losses.virtual_adversarial_training import VirtualAdversarialLoss, unit


def test_linear_model(parity):
    """For two classes the only sensitive direction is w1 - w2; the loss there is a KL that torch computes."""
    model = nn.Linear(6, 2).double()
    x = torch.randn(8, 6, dtype=torch.float64)
    vat = VirtualAdversarialLoss(eps=0.5, xi=1e-6, power_iterations=2, reduction="none")
    clean = model(x).log_softmax(1).detach()
    d = vat.direction(model, x, clean, torch.randn_like(x))
    top = (model.weight[0] - model.weight[1]).detach()
    top = top / top.norm()
    assert torch.allclose((d @ top).abs(), torch.ones(8, dtype=torch.float64), atol=1e-6)
    both = torch.stack(
        [F.kl_div(model(x + s * 0.5 * top).log_softmax(1), clean.exp(), reduction="none").sum(1) for s in (1, -1)]
    )
    got = vat(model, x)
    error = (both - got).abs().amin(0).max().detach()  # the sign of the start decides the side
    parity("virtual_adversarial_training", error, 1e-6, oracle="the analytic direction of a two-class linear model")


def test_target_is_detached():
    model = nn.Linear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    vat = VirtualAdversarialLoss(eps=1.0)
    torch.manual_seed(3)
    loss = vat(model, x)
    (got,) = torch.autograd.grad(loss, model.weight)
    torch.manual_seed(3)
    d = torch.randn_like(x)
    target = model(x).log_softmax(1).detach()
    r = vat.direction(model, x, target, d)
    expected = F.kl_div(model(x + r).log_softmax(1), target, log_target=True, reduction="batchmean")
    assert torch.allclose(got, torch.autograd.grad(expected, model.weight)[0], atol=1e-10)


def test_leaves_everything_alone():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    x = torch.randn(16, 4)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    loss = VirtualAdversarialLoss(eps=0.0)(model, x)
    assert float(loss) == pytest.approx(0.0, abs=1e-9)  # same dropout mask in both passes
    loss = VirtualAdversarialLoss(eps=1.0)(model, x)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model[1].momentum == 0.1
    assert model[0].weight.grad.abs().sum() > 0


def test_norm_of_the_perturbation_and_entropy():
    d = torch.randn(3, 2, 4, 4) * 1e-30
    assert torch.allclose(unit(d).flatten(1).norm(dim=1), torch.ones(3))
    model, x = nn.Linear(4, 3), torch.randn(6, 4)
    p = model(x).softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    assert torch.allclose(VirtualAdversarialLoss(eps=0.0, entropy=1.0)(model, x), entropy, atol=1e-6)


def test_bad_input():
    for args in ((-1.0,), (1.0, 0.0), (1.0, 1e-3, 0)):
        with pytest.raises(ValueError, match="vat needs"):
            VirtualAdversarialLoss(*args)
