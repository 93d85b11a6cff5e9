"""AdaBound and AMSBound against the equations in a loop, against Adam without a band, and against SGD at its end."""

from __future__ import annotations

import optimizer_contract as contract
import pytest
import torch
from torch import Tensor

from zoo.optimizers.adabound import AdaBound, AMSBound, bounds

HYPER = {"lr": 0.02, "betas": (0.8, 0.95), "final_lr": 0.05, "gamma": 0.1, "eps": 1e-3, "weight_decay": 0.1}


def loop(
    w: Tensor, grads: list[Tensor], ams=False, lr=0.02, betas=(0.8, 0.95), final=0.05, rho=0.1, eps=1e-3
) -> Tensor:
    m, v, top = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = g + 0.1 * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        top = torch.where(v > top, v, top) if ams else v
        rate = lr * (1 - betas[1] ** t) ** 0.5 / (1 - betas[0] ** t) / (top**0.5 + eps)
        low, high = final * (1 - 1 / (rho * t + 1)), final * (1 + 1 / (rho * t))
        w = w - torch.where(rate < low, low, torch.where(rate > high, high, rate)) * m
    return w


def test_equations(parity):
    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: AdaBound(ps, **HYPER, foreach=f), loop, steps=12)
        parity("adabound", error, 1e-12, oracle="the update in a loop, float64")


def test_equations_amsbound(parity):
    for foreach in (False, True):
        error = contract.against_loop(
            lambda ps, f=foreach: AMSBound(ps, **HYPER, foreach=f), lambda w, g: loop(w, g, ams=True), steps=12
        )
        parity("amsbound", error, 1e-12, oracle="the update with a running maximum in a loop, float64")


def test_the_two_differ():
    ends = []
    grads = [[g * s for g in step] for step, s in zip(contract.gradients(12), [5.0] * 3 + [0.1] * 9, strict=True)]
    for kind in (AdaBound, AMSBound):
        params = contract.parameters()
        ends.append(contract.run(kind(params, **HYPER), params, grads))
    assert contract.difference(*ends) > 1e-5


def test_wide_band_is_adam():
    """At step 1 with a tiny rho the band is (0, huge): Adam, but for where eps stands."""
    ours, theirs = (torch.ones(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    a, b = AdaBound([ours], gamma=1e-12, eps=0.0), torch.optim.Adam([theirs], eps=0.0)
    for seed in range(4):
        ours.grad = theirs.grad = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs)


def test_narrow_band_is_sgd_with_averaged_momentum():
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = AdaBound([p], final_lr=0.1)
    p.grad = torch.full((3,), 2.0, dtype=torch.float64)
    optimizer.step()
    optimizer.state[p]["step"].fill_(1e9)
    before, m = p.detach().clone(), optimizer.state[p]["exp_avg"].clone()
    p.grad = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(before - p.detach(), 0.1 * (0.9 * m + 0.1 * p.grad), rtol=1e-5, atol=0)


def test_band_narrows():
    low, high = bounds(0.1, 1e-3, 1)
    assert (low, high) == (pytest.approx(1e-4, rel=2e-3), pytest.approx(100.1))
    low, high = bounds(0.1, 1e-3, 10_001)
    assert 0.09 < low < high < 0.11


def test_added_group_is_updated_and_a_schedule_scales_the_band():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = AdaBound([a], lr=1e-3)
    optimizer.add_param_group({"params": [b], "lr": 1e-2})
    assert optimizer.param_groups[1]["initial_lr"] == 1e-2
    a.grad = b.grad = torch.ones(2)
    optimizer.step()
    assert not torch.equal(b.detach(), torch.ones(2))
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=9)
    assert optimizer.param_groups[0]["lr"] == 5e-4
    optimizer.state[a]["step"].fill_(1e9)  # the band is a point: final_lr * lr / initial_lr
    before = a.detach().clone()
    optimizer.step()
    torch.testing.assert_close(before - a.detach(), 0.05 * optimizer.state[a]["exp_avg"], rtol=1e-4, atol=0)
    assert AdaBound([a]).state_dict()["param_groups"][0]["initial_lr"] == 1e-3
    schedule.step()


def test_zero_rate_in_a_warm_up_moves_nothing():
    p = torch.ones(2, requires_grad=True)
    optimizer = AdaBound([p])
    optimizer.param_groups[0]["lr"] = 0.0
    p.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2))
    with pytest.raises(ValueError, match="lr > 0"):
        AdaBound([p], lr=0.0)


def test_contract():
    contract.check_all(AdaBound, "adabound")
    contract.check_all(AMSBound, "amsbound")


def test_compiles_once():
    contract.check_compiles_once(AMSBound)
