"""Bootstrapping against an explicit mixed target; whether the gradient flows through it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.noisy_labels.bootstrapping import Bootstrapping


@pytest.mark.parametrize(("mode", "detach"), [("hard", False), ("soft", False), ("soft", True)])
def test_explicit_target(parity, mode, detach):
    z, y = torch.randn(15, 5, dtype=torch.float64, requires_grad=True), torch.randint(0, 5, (15,))
    p = z.softmax(1)
    own = F.one_hot(z.argmax(1), 5).double() if mode == "hard" else (p.detach() if detach else p)
    beta = 0.8 if mode == "hard" else 0.95
    target = beta * F.one_hot(y, 5).double() + (1 - beta) * own
    expected = -(target * p.log()).sum(1)
    got = Bootstrapping(mode=mode, detach=detach, reduction="none")(z, y)
    error = (got - expected).abs().max().detach()
    pair = [torch.autograd.grad(v.sum(), z, retain_graph=True)[0] for v in (got, expected)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("bootstrapping", error, 1e-12, oracle="cross-entropy against the explicitly mixed target")


def test_detach_matters_and_beta_one_is_cross_entropy():
    z, y = torch.randn(6, 4, requires_grad=True), torch.randint(0, 4, (6,))
    flowing, stopped = (torch.autograd.grad(Bootstrapping(0.5, "soft", detach=d)(z, y), z)[0] for d in (False, True))
    assert not torch.allclose(flowing, stopped)
    assert torch.allclose(Bootstrapping(1.0)(z, y), F.cross_entropy(z, y))


def test_masked_class_is_finite():
    z = torch.tensor([[1.0, 0.0, -torch.inf]], requires_grad=True)
    loss = Bootstrapping(mode="soft")(z, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert z.grad[:, :2].isfinite().all()


def test_bad_input():
    with pytest.raises(ValueError, match="hard or soft"):
        Bootstrapping(mode="firm")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Bootstrapping(1.2)
