"""Confident learning against the definition in loops and against cleanlab where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.noisy_labels.confident_learning import confident_joint, confident_learning, find_issues


def problem(n=300, k=4, flips=0.2):
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(0, k, (n,), generator=g)
    z = 2.5 * nn.functional.one_hot(truth, k) + torch.randn(n, k, generator=g)
    shift = torch.randint(1, k, (n,), generator=g) * (torch.rand(n, generator=g) < flips)
    return (truth + shift) % k, z.double().softmax(1), shift > 0


def test_joint_in_loops(parity):
    y, p, _ = problem()
    n, k = p.shape
    threshold = [sum(float(p[i, j]) for i in range(n) if y[i] == j) / int((y == j).sum()) for j in range(k)]
    joint = torch.zeros(k, k, dtype=torch.int64)
    for i in range(n):
        above = [j for j in range(k) if float(p[i, j]) >= threshold[j] - 1e-6]
        if above:
            joint[int(y[i]), max(above, key=lambda j: float(p[i, j]))] += 1
    error = (confident_joint(y, p) - joint).abs().max()
    parity("confident_learning", error, 0.0, oracle="thresholds and counts in plain loops")


def test_issues_match_cleanlab():
    filter_ = pytest.importorskip("cleanlab.filter")
    y, p, _ = problem()
    count = pytest.importorskip("cleanlab.count")
    assert (count.compute_confident_joint(y.numpy(), p.numpy(), calibrate=False) == confident_joint(y, p).numpy()).all()
    expected = filter_.find_label_issues(
        y.numpy(), p.numpy(), filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert set(expected.tolist()) == set(find_issues(y, p).tolist())


def test_ranking_and_recall():
    y, p, wrong = problem()
    found = find_issues(y, p)
    own = p[found, y[found]]
    assert (own.diff() >= 0).all()
    assert float(wrong[found].double().mean()) > 0.8
    assert float(wrong[found].sum()) > 0.5 * float(wrong.sum())


def test_out_of_sample():
    """A model that memorises still finds the flips, because nobody judges a sample it was trained on."""
    seen = []

    def fit(model, x, y):
        seen.append(x[:, 0].clone())

    x = torch.arange(20.0).unsqueeze(1).repeat(1, 2)
    issues = confident_learning(nn.Linear(2, 2), x, torch.arange(20) % 2, fit, folds=4)
    assert issues.probabilities.shape == (20, 2)
    assert [len(s) for s in seen] == [15] * 4
    assert sorted(torch.cat(seen).tolist()) == sorted(x[:, 0].tolist() * 3)
    with pytest.raises(ValueError, match="folds"):
        confident_learning(nn.Linear(2, 2), x, torch.arange(20) % 2, fit, folds=1)
