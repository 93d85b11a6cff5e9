"""torch's CosineAnnealingWarmRestarts against integer arithmetic: cycle ends, rates, resume, warm-up."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearLR, SequentialLR


def sgd(lr: float = 0.05) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def closed_form(t: int, t_0: int, t_mult: int, high: float, low: float) -> float:
    """Walks through the cycles with integers, so no logarithm can fall on the wrong side of a restart."""
    length = t_0
    while t >= length:
        t -= length
        length *= t_mult
    return low + (high - low) * (1 + math.cos(math.pi * t / length)) / 2


def rates(scheduler, optimizer, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("t_0", "t_mult"), [(10, 2), (1, 3), (3, 3), (7, 10), (5, 1), (1, 2)])
def test_integer_closed_form(parity, t_0, t_mult):
    optimizer = sgd()
    found = rates(CosineAnnealingWarmRestarts(optimizer, t_0, t_mult, eta_min=1e-3), optimizer, 1200)
    error = max(abs(lr - closed_form(t, t_0, t_mult, 0.05, 1e-3)) for t, lr in enumerate(found))
    parity("sgdr", error, 1e-15, oracle="cycles counted with integers")


def test_restarts_are_exact():
    optimizer = sgd()
    found = rates(CosineAnnealingWarmRestarts(optimizer, 3, 3), optimizer, 400)
    assert [t for t, lr in enumerate(found) if lr == 0.05] == [0, 3, 12, 39, 120, 363]


def test_step_with_an_epoch_misses_some_restarts():
    """The trap that the page warns of: ``step(epoch)`` finds its cycle by a float logarithm."""
    optimizer = sgd()
    scheduler = CosineAnnealingWarmRestarts(optimizer, 3, 3)
    scheduler.step(363)
    assert optimizer.param_groups[0]["lr"] < 1e-6
    assert closed_form(363, 3, 3, 0.05, 0.0) == 0.05


def test_one_cycle_is_cosine_annealing():
    a, b = sgd(), sgd()
    one, plain = CosineAnnealingWarmRestarts(a, 50), CosineAnnealingLR(b, 50)
    for x, y in zip(rates(one, a, 50), rates(plain, b, 50), strict=True):
        assert x == pytest.approx(y, abs=1e-15)


def test_resume_by_state_dict():
    optimizer = sgd()
    scheduler = CosineAnnealingWarmRestarts(optimizer, 4, 2)
    rates(scheduler, optimizer, 9)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    straight = rates(scheduler, optimizer, 30)
    fresh = sgd()
    again = CosineAnnealingWarmRestarts(fresh, 4, 2)
    fresh.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    assert rates(again, fresh, 30) == straight


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_warm_up_then_restarts():
    optimizer = sgd()
    warm_up = LinearLR(optimizer, start_factor=0.1, total_iters=5)
    restarts = CosineAnnealingWarmRestarts(optimizer, 10, 2)
    found = rates(SequentialLR(optimizer, [warm_up, restarts], milestones=[5]), optimizer, 60)
    assert found[:5] == pytest.approx([0.05 * (0.1 + 0.9 * t / 5) for t in range(5)])
    assert found[5:] == pytest.approx([closed_form(t, 10, 2, 0.05, 0.0) for t in range(55)], abs=1e-15)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("at", [0, 2, 5, 6, 14, 15, 30])
def test_resume_with_a_warm_up(at):
    """In the warm-up, where the parts meet, at a restart and after it."""

    def made(optimizer):
        parts = [LinearLR(optimizer, 0.1, total_iters=5), CosineAnnealingWarmRestarts(optimizer, 10, 2)]
        return SequentialLR(optimizer, parts, milestones=[5])

    optimizer = sgd()
    scheduler = made(optimizer)
    rates(scheduler, optimizer, at)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    straight = rates(scheduler, optimizer, 60)
    fresh = sgd()
    again = made(fresh)
    fresh.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    assert rates(again, fresh, 60) == straight


@pytest.mark.parametrize("bad", [{"T_0": 0}, {"T_0": 2.5}, {"T_0": 5, "T_mult": 0}, {"T_0": 5, "T_mult": 1.5}])
def test_bad_input(bad):
    with pytest.raises(ValueError, match="Expected"):
        CosineAnnealingWarmRestarts(sgd(), **bad)


def test_stepped_wrongly():
    """A negative step is refused; a start in the middle needs the tops; the order of the two steps is not checked."""
    for epoch in (-1, -0.5):
        with pytest.raises(ValueError, match=f"non-negative epoch, but got {epoch}"):
            CosineAnnealingWarmRestarts(sgd(), 3).step(epoch)
    with pytest.raises(KeyError, match="initial_lr"):
        CosineAnnealingWarmRestarts(sgd(), 3, last_epoch=5)
    optimizer = sgd()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CosineAnnealingWarmRestarts(optimizer, 3).step()  # before the optimizer: the first rate is lost, nobody warns
    assert optimizer.param_groups[0]["lr"] == pytest.approx(closed_form(1, 3, 1, 0.05, 0.0))
