"""Co-teaching against explicit selection in a loop: whose losses choose, how many, what the gradient reaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.noisy_labels.base import Pair, fresh_copy
from zoo.noisy_labels.co_teaching import CoTeaching, keep_rate


def test_selection_by_the_other_network(parity):
    f, g = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    task = CoTeaching(f, g, forget_rate=0.4, ramp=10)
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(0, 3, (10,))
    losses = [F.cross_entropy(net(x), y, reduction="none") for net in (f, g)]
    keep = 8  # epoch 5 of a ramp of 10 to 0.4 drops a fifth
    order = [sorted(range(10), key=lambda i, row=row: float(row[i])) for row in losses]
    expected = sum(losses[0][i] for i in order[1][:keep]) / keep + sum(losses[1][i] for i in order[0][:keep]) / keep
    result = task(x, y, epoch=5)
    error = (result["loss"] - expected).abs().detach()
    for net in (f, g):
        pair = [torch.autograd.grad(v, net.weight, retain_graph=True)[0] for v in (result["loss"], expected)]
        error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    assert order[0][:keep] != order[1][:keep]
    parity("co_teaching", error, 1e-12, oracle="selection by sorting the other network's losses in a loop")


def test_schedule():
    assert [round(keep_rate(e, 0.4), 3) for e in (0, 5, 10, 50)] == [1.0, 0.8, 0.6, 0.6]
    assert keep_rate(2, 0.4, exponent=2) == pytest.approx(1 - 0.4 * 0.4)
    assert CoTeaching(nn.Linear(2, 2), forget_rate=0.99).count(3, 50) == 1


def test_second_network_is_drawn_anew():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    task = CoTeaching(model)
    first, second = task.trainable_module.nets
    assert first is model
    assert not torch.equal(first[0].weight, second[0].weight)

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

    with pytest.raises(ValueError, match="drawn anew"):
        fresh_copy(Odd())


def test_modes_and_bad_input():
    pair = Pair(nn.Linear(2, 2), nn.Linear(2, 2))
    x, y = torch.randn(3, 2), torch.tensor([0, 1, 0])
    assert pair(x).shape == (2, 3, 2)
    assert torch.equal(pair.eval()(x), pair.nets[0](x))
    task = CoTeaching(nn.Linear(2, 2)).eval()
    assert task(x, y, epoch=0)["output"].shape == (3, 2)
    with pytest.raises(ValueError, match="epoch="):
        task(x, y)
    with pytest.raises(ValueError, match="forget_rate"):
        CoTeaching(nn.Linear(2, 2), forget_rate=1.0)
