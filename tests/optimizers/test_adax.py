"""AdaX and AdaX-W against the paper's recursion on the raw second moment."""

from __future__ import annotations

import math

import optimizer_contract as contract
import pytest
import torch
from torch import Tensor

from zoo.optimizers.adax import AdaX, AdaXW, growth


def loop(w: Tensor, grads: list[Tensor], l2=0.1, decoupled=0.0, lr=0.02, betas=(0.8, 1e-2), eps=1e-3) -> Tensor:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = g + l2 * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = (1 + betas[1]) * v + betas[1] * g * g  # raw, as printed
        step = lr * m * ((1 + betas[1]) ** t - 1) ** 0.5 / (v**0.5 + eps)
        w = w - lr * decoupled * w - step
    return w


HYPER = {"lr": 0.02, "betas": (0.8, 1e-2), "eps": 1e-3, "weight_decay": 0.1}


def test_equations(parity):
    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: AdaX(ps, **HYPER, foreach=f), loop)
        parity("adax", error, 1e-12, oracle="the recursion on the raw second moment, float64")


def test_equations_decoupled(parity):
    def decoupled(w: Tensor, grads: list[Tensor]) -> Tensor:
        return loop(w, grads, l2=0.0, decoupled=0.1)

    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: AdaXW(ps, **HYPER, foreach=f), decoupled)
        parity("adax_w", error, 1e-12, oracle="the recursion on the raw second moment, float64")


def test_constant_gradient_keeps_the_average():
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = AdaX([p], weight_decay=0.0)
    for _ in range(50):
        p.grad = torch.full((1,), 3.0, dtype=torch.float64)
        optimizer.step()
        assert float(optimizer.state[p]["long_avg_sq"]) == pytest.approx(9.0)


def test_first_step_is_not_bias_corrected():
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    p.grad = torch.full((1,), 5.0, dtype=torch.float64)
    AdaX([p], lr=1.0, weight_decay=0.0).step()
    assert float(p.detach()) == pytest.approx(-0.1)


def test_old_gradients_weigh_more():
    """After large gradients, small ones hardly lower the average; Adam forgets within a thousand steps."""
    p, q = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    adax, adam = AdaX([p], weight_decay=0.0), torch.optim.Adam([q])
    for t in range(2000):
        p.grad = q.grad = torch.full((1,), 1.0 if t < 1000 else 0.01, dtype=torch.float64)
        before = p.detach().clone(), q.detach().clone()
        adax.step()
        adam.step()
    assert float((q.detach() - before[1]).abs()) > 0.01 * 1e-3
    assert float((p.detach() - before[0]).abs()) < 0.02 * 1.5e-3


def test_no_overflow_after_a_million_steps():
    """The raw moment would be e^1000: the kept one is an average."""
    p = torch.zeros(2, requires_grad=True)
    for foreach in (False, True):
        optimizer = AdaX([p], foreach=foreach)
        p.grad = torch.ones(2)
        optimizer.step()
        optimizer.state[p]["step"].fill_(1e7)
        optimizer.step()
        assert torch.isfinite(p).all()
        assert torch.isfinite(optimizer.state[p]["long_avg_sq"]).all()
    assert growth(1e-4, 1.0) == pytest.approx(1e-4, rel=1e-12)
    assert growth(1e-4, 1e9) == math.inf


def test_contract():
    for kind, name in ((AdaX, "adax"), (AdaXW, "adax_w")):
        contract.check_all(lambda ps, k=kind, **kw: k(ps, **{"betas": (0.9, 1e-4), **kw}), name)
    with pytest.raises(ValueError, match=r"betas\[1\] <= 0.1.*received 0.999"):
        AdaX([torch.ones(1, requires_grad=True)], betas=(0.9, 0.999))


def test_compiles_once():
    contract.check_compiles_once(AdaX)
