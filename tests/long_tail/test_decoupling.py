"""Decoupling: sampling frequencies against the closed form, tau-normalisation and LWS as one another's limits, NCM in loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.long_tail.decoupling import (
    DecouplingSampler,
    LearnableScaling,
    NearestClassMean,
    class_probabilities,
    reset_classifier_for_crt,
    tau_normalized,
)

COUNTS = [600, 60, 6]
LABELS = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))


@pytest.mark.parametrize(
    ("mode", "epoch", "expected"),
    [
        ("instance", 0, [600 / 666, 60 / 666, 6 / 666]),
        ("class_balanced", 0, [1 / 3] * 3),
        ("square_root", 0, [600**0.5 / s for s in [600**0.5 + 60**0.5 + 6**0.5]] + [0.2255, 0.0713]),
        ("progressive", 5, [(a / 666 + 1 / 3) / 2 for a in COUNTS]),
    ],
)
def test_frequencies(parity, mode, epoch, expected):
    sampler = DecouplingSampler(LABELS, mode, epochs=10, num_samples=30_000)
    sampler.set_epoch(epoch)
    drawn = torch.tensor(list(sampler))
    frequency = torch.bincount(LABELS[drawn], minlength=3).double() / len(drawn)
    p = torch.tensor(expected, dtype=torch.float64)
    chi_square = len(drawn) * ((frequency - p) ** 2 / p).sum()
    assert float(chi_square) < 18.4  # the 0.9999 quantile for two degrees of freedom
    # Within a class every sample is as likely.
    within = torch.bincount(drawn[drawn < 600], minlength=600).double()
    assert float(within.max()) < 3 * float(within.mean()) + 12
    if mode == "class_balanced":
        parity("decoupling", chi_square, 18.4, oracle="chi-square distance to the closed-form class probabilities")


def test_probabilities_and_epochs():
    p = class_probabilities(torch.tensor([4, 0, 1]), 0.0)
    assert p.tolist() == [0.5, 0.0, 0.5]
    sampler = DecouplingSampler(LABELS, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert len(sampler) == 666


def test_tau_and_scaling_agree():
    classifier, x = nn.Linear(5, 3).double(), torch.randn(7, 5, dtype=torch.float64)
    norms = [sum(float(v) ** 2 for v in row) ** 0.5 for row in classifier.weight]
    for tau in (0.0, 0.7, 1.0):
        rows = [classifier.weight[i] / norms[i] ** tau for i in range(3)]
        assert torch.allclose(tau_normalized(classifier, tau)(x), x @ torch.stack(rows).T)
    assert tau_normalized(classifier).bias is None
    assert torch.equal(tau_normalized(classifier, keep_bias=True).bias, classifier.bias)
    plain = nn.Linear(5, 3, bias=False).double()
    lws = LearnableScaling(plain)
    with torch.no_grad():
        lws.scale.copy_(plain.weight.norm(dim=1) ** -0.7)
    assert torch.allclose(lws(x), tau_normalized(plain, 0.7)(x))
    lws(x).sum().backward()
    assert plain.weight.grad is None
    assert lws.scale.grad is not None
    with pytest.raises(TypeError, match=r"nn\.Linear"):
        tau_normalized(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "cl2n"])
def test_nearest_class_mean(metric):
    x, y = torch.randn(20, 4, dtype=torch.float64) + 1, torch.arange(20) % 3
    ncm = NearestClassMean(x, y, 4, metric)
    query = torch.randn(6, 4, dtype=torch.float64) + 1
    score = ncm(query)
    assert torch.isneginf(score[:, 3]).all()  # a class without samples
    centre = x.mean(0) if metric == "cl2n" else 0

    def scaled(v):
        return v / v.norm() if metric == "cl2n" else v

    for n in range(6):
        q = scaled(query[n] - centre)
        for k in range(3):
            mean = sum(scaled(v - centre) for v, label in zip(x, y, strict=True) if label == k) / int((y == k).sum())
            expected = q @ mean / (q.norm() * mean.norm()) if metric == "cosine" else -(q - mean).norm()
            assert float(score[n, k]) == pytest.approx(float(expected), abs=1e-9)


def test_crt_trains_a_new_classifier_only():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model.get_classifier = lambda: model[1]
    before = model[1].weight.clone()
    parameters = reset_classifier_for_crt(model)
    assert not torch.equal(before, model[1].weight)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert {id(p) for p in parameters} == {id(p) for p in model[1].parameters()}
    with pytest.raises(TypeError, match="get_classifier"):
        reset_classifier_for_crt(nn.Linear(2, 2))


def test_bad_input():
    with pytest.raises(ValueError, match="mode is one of"):
        DecouplingSampler(LABELS, "balanced")
    with pytest.raises(ValueError, match="labels"):
        DecouplingSampler([])
    with pytest.raises(ValueError, match="metric"):
        NearestClassMean(torch.randn(2, 2), torch.tensor([0, 1]), 2, "l1")
