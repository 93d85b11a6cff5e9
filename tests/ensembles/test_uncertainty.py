"""MC dropout: what is switched on, the decomposition in loops, moments of a linear model."""

from __future__ import annotations

import math

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from zoo.ensembles.uncertainty import decompose, mc_dropout


def test_decomposition_in_loops(parity):
    p = torch.randn(6, 4, 3, dtype=torch.float64).softmax(2)
    got = decompose(p)
    error = torch.zeros((), dtype=torch.float64)
    for n in range(4):
        mean = [sum(float(p[t, n, k]) for t in range(6)) / 6 for k in range(3)]
        total = -sum(v * math.log(v) for v in mean)
        inner = sum(-sum(float(v) * math.log(float(v)) for v in p[t, n]) for t in range(6)) / 6
        for a, b in (
            (got.entropy[n], total),
            (got.expected_entropy[n], inner),
            (got.mutual_information[n], total - inner),
        ):
            error = torch.maximum(error, (a - b).abs())
    parity("mc_dropout", error, 1e-12, oracle="entropies in plain loops")


def test_limits():
    same = torch.tensor([[1.0, 0.0]]).repeat(5, 1, 1)
    assert float(decompose(same).entropy) == 0  # 0 log 0
    split = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert float(decompose(split).mutual_information) == pytest.approx(math.log(2))
    noise = torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]]])
    assert float(decompose(noise).mutual_information) == pytest.approx(0.0, abs=1e-7)


def test_only_dropout_is_switched_on():
    model = nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    x = torch.randn(8, 4)
    before = model[1].running_mean.clone()
    model.train()
    model[2].eval()
    result = mc_dropout(model, x, passes=20)
    assert torch.equal(model[1].running_mean, before)
    assert [m.training for m in model] == [True, True, False, True, True]
    assert (result.mutual_information > 0).all()
    assert torch.allclose(result.probabilities.sum(1), torch.ones(8))


def test_drop_path_counts_and_no_dropout_is_an_error():
    model = nn.Sequential(DropPath(0.5), nn.Linear(4, 3))
    assert float(mc_dropout(model, torch.randn(4, 4), 30).mutual_information.max()) > 0
    with pytest.raises(ValueError, match="found 0"):
        mc_dropout(nn.Linear(2, 2), torch.randn(1, 2))
    with pytest.raises(ValueError, match="found 0"):
        mc_dropout(nn.Sequential(nn.Dropout(0.0)), torch.randn(1, 2))


def test_moments_of_a_linear_model():
    """With one logit kept with probability 1/2, half of the passes see it doubled, the others see none."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
    mean = mc_dropout(model, torch.ones(1, 1), passes=4000).probabilities[0, 0]
    expected = (torch.sigmoid(torch.tensor(2.0)) + 0.5) / 2
    assert float(mean) == pytest.approx(float(expected), abs=0.02)
