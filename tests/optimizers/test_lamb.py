"""timm's Lamb against the paper's algorithm 2, and the places where it departs from it."""

from __future__ import annotations

import optimizer_contract as contract
import torch
from timm.optim import Lamb
from torch import Tensor


def loop(w: Tensor, grads: list[Tensor], lr=0.02, betas=(0.8, 0.95), eps=1e-3, decay=0.1, adapt=True) -> Tensor:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        u = m / (1 - betas[0] ** t) / ((v / (1 - betas[1] ** t)) ** 0.5 + eps) + decay * w
        w_norm, u_norm = float((w * w).sum()) ** 0.5, float((u * u).sum()) ** 0.5
        w = w - lr * (w_norm / u_norm if adapt and w_norm and u_norm else 1.0) * u
    return w


HYPER = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "max_grad_norm": None}


def test_equations(parity):
    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: Lamb(ps, **HYPER, foreach=f), loop)
        parity("lamb", error, 1e-12, oracle="the paper's algorithm 2 with bias correction in a loop, float64")


def test_groups_without_decay_are_not_adapted():
    """A deviation that recipes rely on: such groups take the plain Adam step unless always_adapt is set."""
    plain = lambda w, gs: loop(w, gs, decay=0.0, adapt=False)  # noqa: E731
    adapted = lambda w, gs: loop(w, gs, decay=0.0)  # noqa: E731
    hyper = {**HYPER, "weight_decay": 0.0}
    assert contract.against_loop(lambda ps: Lamb(ps, **hyper), plain) < 1e-12
    assert contract.against_loop(lambda ps: Lamb(ps, **hyper, always_adapt=True), adapted) < 1e-12


def test_decay_is_inside_the_trust_ratio():
    """Decoupling it (timm's lambw) is another optimizer."""
    assert contract.against_loop(lambda ps: Lamb(ps, **HYPER, decoupled_decay=True), loop) > 1e-4


def test_registry_default_turns_the_hidden_clip_off():
    """timm clips the global gradient norm to 1 unless told not to; clipped and unclipped moments differ."""
    grads = [[g * s for g in step] for step, s in zip(contract.gradients(4), (1, 50, 1, 50), strict=True)]
    ends = []
    for clip in (None, 1.0):
        params = contract.parameters()
        ends.append(contract.run(Lamb(params, **{**HYPER, "max_grad_norm": clip}), params, grads))
    assert contract.difference(*ends) > 1e-3


def test_ratio_of_one_is_adamw():
    """With zero weights the ratio is 1 and the first step is AdamW's."""
    ours, theirs = (torch.zeros(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours.grad = theirs.grad = torch.randn(5, dtype=torch.float64)
    Lamb([ours], lr=0.1, eps=1e-8, max_grad_norm=None).step()
    torch.optim.AdamW([theirs], lr=0.1, eps=1e-8).step()
    torch.testing.assert_close(ours, theirs)


def test_relative_step_is_lr():
    params = contract.parameters()
    before = [p.detach().clone() for p in params]
    after = contract.run(Lamb(params, lr=0.05, max_grad_norm=None), params, contract.gradients(1))
    for a, b in zip(after, before, strict=True):
        if b.norm() > 0:
            torch.testing.assert_close(float((a - b).norm() / b.norm()), 0.05)


def test_closure_and_gradients_left_alone():
    contract.check_closure(Lamb)
    contract.check_leaves_gradients(Lamb)
