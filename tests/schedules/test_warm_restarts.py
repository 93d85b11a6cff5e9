"""Warm restarts against cycles counted with fractions: exact restarts, warm-up, resuming, torch's own scheduler."""

from __future__ import annotations

import copy
import io
import itertools
import math
import warnings
from fractions import Fraction

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

import zoo
from zoo.schedules.warm_restarts import WarmRestarts


def sgd(lr: float | torch.Tensor = 0.05) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates(scheduler, optimizer, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def starts(t_0: int, factor: Fraction, until: int) -> list[int]:
    """Cumulated sums of the cycles' lengths, by exact fractions and ``round`` half up."""
    found, exact = [0], Fraction(t_0)
    while found[-1] < until:
        found.append(found[-1] + math.floor(exact + Fraction(1, 2)))
        exact *= factor
    return found


def walk(t_0, factor, high, low, steps, warm_up=0, begin=0.0) -> list[float]:
    bounds, found = starts(t_0, factor, steps), []
    for t in range(steps):
        if t < warm_up:
            found.append(high * (begin + (1 - begin) * t / warm_up))
            continue
        s = t - warm_up
        i = next(i for i in itertools.count() if bounds[i + 1] > s)
        found.append(low + (high - low) * (1 + math.cos(math.pi * (s - bounds[i]) / (bounds[i + 1] - bounds[i]))) / 2)
    return found


FACTORS = [
    (10, 2, Fraction(2)),
    (3, 3, Fraction(3)),
    (1, 3, Fraction(3)),
    (7, 10, Fraction(10)),
    (5, 1, Fraction(1)),
    (4, 1.5, Fraction(3, 2)),
    (10, 1.1, Fraction(11, 10)),
    (3, 4 / 3, Fraction(4, 3)),
    (1, 1.0001, Fraction(10001, 10000)),
]


@pytest.mark.parametrize(("t_0", "given", "factor"), FACTORS)
def test_fractions(parity, t_0, given, factor):
    for warm_up in (0, 7):
        optimizer = sgd()
        schedule = WarmRestarts(optimizer, t_0, given, 1e-3, warm_up, 0.1)
        found = rates(schedule, optimizer, 900)
        want = walk(t_0, factor, 0.05, 1e-3, 900, warm_up, 0.1)
        error = max(abs(a - b) for a, b in zip(found, want, strict=True))
        parity("warm_restarts", error, 1e-15, oracle="cycles counted with exact fractions")
        tops = [t for t, lr in enumerate(found) if lr == 0.05]
        assert tops == [warm_up + s for s in starts(t_0, factor, 900) if warm_up + s < 900]


@pytest.mark.parametrize(("t_0", "given", "factor"), FACTORS)
def test_no_drift_after_very_many_steps(t_0, given, factor):
    """Around the last restarts before 10^12 steps: the top at the restart, the last step of a cycle before it."""
    optimizer = sgd()
    schedule = WarmRestarts(optimizer, t_0, given)
    if factor == 1:
        bounds = [10**12 - 3 * t_0, 10**12 - 2 * t_0]
    else:
        bounds = starts(t_0, factor, 10**12 if factor > Fraction(21, 20) else 10**3)[-4:-1]
    for before, bound in itertools.pairwise(bounds):
        length = bound - before
        assert schedule._find(before) == (0, length)
        assert schedule._find(bound - 1) == (length - 1, length)
        assert schedule._find(bound)[0] == 0
        schedule.last_epoch = bound - 1
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == 0.05
        schedule.last_epoch = bound - 2
        schedule.step()
        assert optimizer.param_groups[0]["lr"] <= 0.05 * (math.pi / length) ** 2 or length == 1


@pytest.mark.parametrize(("t_0", "t_mult"), [(10, 2), (1, 3), (3, 3), (7, 10), (5, 1)])
def test_whole_factors_are_torchs(t_0, t_mult):
    a, b = sgd(), sgd()
    ours, theirs = WarmRestarts(a, t_0, t_mult, 1e-3), CosineAnnealingWarmRestarts(b, t_0, t_mult, 1e-3)
    assert max(abs(x - y) for x, y in zip(rates(ours, a, 1000), rates(theirs, b, 1000), strict=True)) < 1e-17


@pytest.mark.parametrize("at", [0, 3, 5, 9, 17, 18, 40, 211])
def test_resume_anywhere(at):
    """In the warm-up, at a restart, one step before it, deep in a cycle; through a file with weights only."""
    optimizer = sgd()
    options = {"T_0": 4, "T_mult": 1.5, "eta_min": 1e-4, "warm_up": 5, "warm_up_start": 0.2}
    schedule = WarmRestarts(optimizer, **options)
    rates(schedule, optimizer, at)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), schedule.state_dict()), file)
    straight = rates(schedule, optimizer, 300)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = sgd(1.0)  # its rate comes from the file
    again = WarmRestarts(fresh, **options)
    fresh.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    assert rates(again, fresh, 300) == straight
    # And without the schedule's state, from the number of steps alone.
    counted = sgd()
    counted.load_state_dict(copy.deepcopy(saved[0]))
    if at > 0:
        number = WarmRestarts(counted, **options, last_epoch=at - 1)
        assert rates(number, counted, 300) == straight


def test_stepped_to_a_number():
    """``step(epoch)`` jumps, also back, and torch's logarithm that misses restarts is not there."""
    optimizer = sgd()
    schedule = WarmRestarts(optimizer, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer.step()
        for epoch, want in ((363, 0.05), (120, 0.05), (0, 0.05), (362, None), (39, 0.05)):
            schedule.step(epoch)
            lr = optimizer.param_groups[0]["lr"]
            assert lr == (walk(3, Fraction(3), 0.05, 0.0, 363)[362] if want is None else want)
        with pytest.raises(ValueError, match="stepped to -3"):
            schedule.step(-3)


def test_stepped_before_the_optimizer_warns():
    optimizer = sgd()
    schedule = WarmRestarts(optimizer, 3)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()


def test_groups_keep_their_own_tops_and_rates_may_be_tensors():
    p, q = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [p], "lr": 0.1}, {"params": [q], "lr": torch.tensor(0.4)}])
    schedule = zoo.create("warm_restarts", optimizer, T_0=4, T_mult=1.5, warm_up=2)
    seen = []
    for _ in range(30):
        seen.append([float(g["lr"]) for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert all(b == pytest.approx(4 * a, rel=1e-6) for a, b in seen)
    assert isinstance(optimizer.param_groups[1]["lr"], torch.Tensor)
    assert seen[2] == [0.1, pytest.approx(0.4)]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"T_0": 0}, ValueError, "T_0 >= 1"),
        ({"T_0": 2.5}, TypeError, "T_0 must be an int, received 2.5"),
        ({"T_0": True}, TypeError, "received True"),
        ({"warm_up": -1}, ValueError, "warm_up >= 0"),
        ({"warm_up": 1.0}, TypeError, "warm_up must be an int"),
        ({"T_mult": 0.5}, ValueError, "T_mult >= 1, received 0.5"),
        ({"T_mult": math.nan}, ValueError, "received nan"),
        ({"T_mult": math.inf}, ValueError, "received inf"),
        ({"warm_up_start": 1.5}, ValueError, "received 1.5"),
    ],
)
def test_bad_input(bad, error, message):
    with pytest.raises(error, match=message):
        WarmRestarts(sgd(), **bad)
