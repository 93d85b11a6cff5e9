"""LANS against the equations of the paper in a loop, and against LAMB where the two must agree."""

from __future__ import annotations

import optimizer_contract as contract
import torch
from timm.optim import Lamb
from torch import Tensor

from zoo.optimizers.lans import LANS


def loop(w: Tensor, grads: list[Tensor], lr=0.02, betas=(0.8, 0.95), eps=1e-3, decay=0.1) -> Tensor:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = g / (float((g * g).sum()) ** 0.5 + eps)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        d = (v / (1 - betas[1] ** t)) ** 0.5 + eps
        step = torch.zeros_like(w)
        for share, u in ((betas[0], m / (1 - betas[0] ** t) / d), (1 - betas[0], g / d)):
            u = u + decay * w
            w_norm, u_norm = float((w * w).sum()) ** 0.5, float((u * u).sum()) ** 0.5
            step += share * (w_norm / u_norm if w_norm and u_norm else 1.0) * u
        w = w - lr * step
    return w


HYPER = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}


def test_equations(parity):
    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: LANS(ps, **HYPER, foreach=f), loop)
        parity("lans", error, 1e-12, oracle="the paper's update in a loop over tensors, float64")


def test_equations_without_decay():
    def plain(w: Tensor, grads: list[Tensor]) -> Tensor:
        return loop(w, grads, decay=0.0)

    for foreach in (False, True):
        make = lambda ps, f=foreach: LANS(ps, **{**HYPER, "weight_decay": 0.0}, foreach=f)  # noqa: E731
        assert contract.against_loop(make, plain) < 1e-12


def test_first_step_is_lamb_on_the_normalised_gradient():
    params, grads = contract.parameters(), contract.gradients(1)
    other = [p.detach().clone().requires_grad_() for p in params]
    ours = contract.run(LANS(params, eps=0.0), params, grads)
    normalised = [[g / g.norm() for g in grads[0]]]
    lamb = Lamb(other, lr=1e-3, eps=0.0, max_grad_norm=None)
    assert contract.difference(ours, contract.run(lamb, other, normalised)) < 1e-12


def test_gradient_scale_has_no_effect():
    ends = []
    for scale in (1.0, 1e3):
        params = contract.parameters()
        grads = [[g * scale for g in step] for step in contract.gradients(5)]
        ends.append(contract.run(LANS(params, eps=1e-12, lr=0.1), params, grads))
    assert contract.difference(*ends) < 1e-9


def test_relative_step_is_at_most_lr():
    params = contract.parameters()
    before = [p.detach().clone() for p in params]
    after = contract.run(LANS(params, lr=0.05), params, contract.gradients(1))
    for a, b in zip(after, before, strict=True):
        if b.norm() > 0:
            assert 0.99 * 0.05 <= float((a - b).norm() / b.norm()) <= 0.05 * (1 + 1e-9)


def test_zero_gradient_only_decays():
    p = torch.ones(4, dtype=torch.float64, requires_grad=True)
    p.grad = torch.zeros(4, dtype=torch.float64)
    LANS([p], lr=0.1).step()  # r = c = decay * w, so the step is lr * w
    torch.testing.assert_close(p.detach(), torch.full((4,), 0.9, dtype=torch.float64))


def test_contract():
    contract.check_all(LANS, "lans")


def test_compiles_once():
    contract.check_compiles_once(LANS)
