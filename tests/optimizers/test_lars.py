"""timm's Lars against the paper's algorithm 1 with the rate outside the momentum buffer, and where the two differ."""

from __future__ import annotations

import optimizer_contract as contract
import pytest
import torch
from timm.optim import Lars
from torch import Tensor


def loop(w: Tensor, grads: list[Tensor], rates=(0.5,) * 9, in_buffer=False, eta=0.01, beta=0.1, momentum=0.8) -> Tensor:
    """``in_buffer`` is the paper: the buffer holds rate * ratio * gradient. Otherwise torch's order, as in timm."""
    buffer = torch.zeros_like(w)
    for lr, g in zip(rates, grads, strict=False):
        w_norm, g_norm = float((w * w).sum()) ** 0.5, float((g * g).sum()) ** 0.5
        ratio = eta * w_norm / (g_norm + beta * w_norm) if w_norm and g_norm else 1.0
        step = ratio * (g + beta * w)
        buffer = momentum * buffer + (lr * step if in_buffer else step)
        w = w - (buffer if in_buffer else lr * buffer)
    return w


HYPER = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.1, "trust_coeff": 0.01, "eps": 0.0}


def test_equations(parity):
    for foreach in (False, True):
        error = contract.against_loop(lambda ps, f=foreach: Lars(ps, **HYPER, foreach=f), loop)
        parity("lars", error, 1e-12, oracle="algorithm 1 in a loop, rate outside the buffer, float64")


def test_at_a_constant_rate_the_placement_does_not_matter():
    paper = lambda w, g: loop(w, g, in_buffer=True)  # noqa: E731
    assert contract.against_loop(lambda ps: Lars(ps, **HYPER), paper) < 1e-12


def test_after_a_drop_of_the_rate_it_does():
    rates = (0.5, 0.5, 0.05, 0.05, 0.05)
    ends = [
        [loop(p.detach(), [g[0] for g in contract.gradients(5)], rates, b) for p in contract.parameters()[:1]]
        for b in (0, 1)
    ]
    assert contract.difference(*ends) > 1e-4


def test_without_decay_it_is_plain_sgd_unless_told_otherwise():
    """timm's default: a group with zero decay is not adapted. That is how biases are exempted."""
    ends = []
    for make in (lambda ps: Lars(ps, lr=0.1, momentum=0.9), lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9)):
        params = contract.parameters()
        ends.append(contract.run(make(params), params, contract.gradients(4)))
    assert contract.difference(*ends) == 0.0
    params = contract.parameters()
    adapted = contract.run(Lars(params, lr=0.1, momentum=0.9, always_adapt=True), params, contract.gradients(4))
    assert contract.difference(adapted, ends[1]) > 0.1


def test_gradient_scale_has_no_effect_without_decay():
    ends = []
    for scale in (1.0, 1000.0):
        params = [p for p in contract.parameters() if p.detach().any()]  # a ratio of zero weights is 1 by definition
        keep = [i for i, p in enumerate(contract.parameters()) if p.detach().any()]
        grads = [[scale * step[i] for i in keep] for step in contract.gradients(5)]
        optimizer = Lars(params, lr=1.0, momentum=0.9, always_adapt=True, eps=0.0)
        ends.append(contract.run(optimizer, params, grads))
    assert contract.difference(*ends) < 1e-12


def test_ratio_one_is_an_sgd_step():
    p = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([0.0, 5e-3], dtype=torch.float64)  # eta * 5 / 5e-3 = 1
    Lars([p], lr=0.1, always_adapt=True, eps=0.0, trust_coeff=1e-3).step()
    torch.testing.assert_close(p.detach(), torch.tensor([3.0, 4.0 - 5e-4], dtype=torch.float64))


def test_closure_gradients_and_bad_input():
    contract.check_closure(Lars)
    contract.check_leaves_gradients(Lars)
    with pytest.raises(ValueError, match="learning rate"):
        Lars([torch.ones(1, requires_grad=True)], lr=-1.0)
