"""Label smoothing: torch's uniform form against an explicit soft target, the unigram form against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.losses.unigram_label_smoothing import UnigramLabelSmoothing


def plain_loop(z, y, prior, eps):
    losses = []
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        total = math.log(sum(math.exp(v) for v in row))
        q = [(1 - eps) * (k == label) + eps * prior[k] for k in range(len(row))]
        losses.append(-sum(qk * (v - total) for qk, v in zip(q, row, strict=True)))
    return torch.tensor(losses, dtype=torch.float64)


def test_uniform_is_the_soft_target(parity):
    z, y = torch.randn(12, 5, dtype=torch.float64), torch.randint(0, 5, (12,))
    got = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")(z, y)
    error = (got - plain_loop(z, y, [0.2] * 5, 0.1)).abs().max()
    parity("label_smoothing", error, 1e-12, oracle="plain loop with mass eps/K on every class, the true one included")


def test_unigram_plain_loop(parity):
    z, y = torch.randn(12, 4, dtype=torch.float64, requires_grad=True), torch.randint(0, 4, (12,))
    prior = [0.5, 0.25, 0.15, 0.1]
    got = UnigramLabelSmoothing([50, 25, 15, 10], 0.3, reduction="none")(z, y)
    error = (got - plain_loop(z, y, prior, 0.3)).abs().max()
    (gradient,) = torch.autograd.grad(got.sum(), z)
    q = 0.7 * nn.functional.one_hot(y, 4).double() + 0.3 * torch.tensor(prior, dtype=torch.float64)
    error = torch.maximum(error.detach(), (gradient - (z.softmax(1) - q)).abs().max())
    parity("unigram_label_smoothing", error, 1e-12, oracle="plain loop over samples and classes; gradient softmax - q")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_constant_prior_is_torch(reduction):
    z, y = torch.randn(8, 6), torch.randint(0, 6, (8,))
    ours = UnigramLabelSmoothing(torch.ones(6), 0.2, reduction)(z, y)
    assert torch.allclose(ours, nn.CrossEntropyLoss(label_smoothing=0.2, reduction=reduction)(z, y), atol=1e-6)


def test_limits():
    z, y = torch.randn(8, 3), torch.randint(0, 3, (8,))
    ce = nn.functional.cross_entropy(z, y)
    assert torch.allclose(UnigramLabelSmoothing([1, 2, 3], 0.0)(z, y), ce)
    # A class that never occurs and is masked out by -inf costs nothing.
    masked = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    loss = UnigramLabelSmoothing([1, 1, 0], 0.1)(masked, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert masked.grad[:, :2].isfinite().all()


def test_half_precision_and_bad_input():
    z, y = torch.randn(4, 3), torch.randint(0, 3, (4,))
    assert UnigramLabelSmoothing([1, 2, 3])(z.bfloat16(), y).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        UnigramLabelSmoothing([1, 2], 1.5)
    with pytest.raises(ValueError, match="prior"):
        UnigramLabelSmoothing([1, -1])
    with pytest.raises(ValueError, match="prior"):
        UnigramLabelSmoothing([0, 0])
    with pytest.raises(ValueError, match="2 classes"):
        UnigramLabelSmoothing([1, 1])(z, y)
    with pytest.raises(ValueError, match="reduction"):
        UnigramLabelSmoothing([1, 1], reduction="avg")
