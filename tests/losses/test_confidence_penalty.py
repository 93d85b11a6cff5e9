"""Confidence penalty: plain loop, closed-form gradient, KL identity, threshold, ramp."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from zoo.losses.confidence_penalty import ConfidencePenalty


def test_plain_loop(parity):
    z, y = torch.randn(10, 5, dtype=torch.float64, requires_grad=True), torch.randint(0, 5, (10,))
    expected, slope = [], torch.zeros(10, 5, dtype=torch.float64)
    for n, (row, label) in enumerate(zip(z.tolist(), y.tolist(), strict=True)):
        total = sum(math.exp(v) for v in row)
        p = [math.exp(v) / total for v in row]
        h = -sum(v * math.log(v) for v in p)
        expected.append(-math.log(p[label]) - 0.4 * h)
        for k in range(5):
            slope[n, k] = p[k] - (k == label) + 0.4 * p[k] * (math.log(p[k]) + h)
    got = ConfidencePenalty(0.4, reduction="none")(z, y)
    error = (got.detach() - torch.tensor(expected, dtype=torch.float64)).abs().max()
    error = torch.maximum(error, (torch.autograd.grad(got.sum(), z)[0] - slope).abs().max())
    parity("confidence_penalty", error, 1e-12, oracle="plain loop, gradient p (log p + H)")


def test_is_kl_to_uniform_up_to_a_constant():
    z, y = torch.randn(6, 8, dtype=torch.float64), torch.randint(0, 8, (6,))
    p = z.softmax(1)
    kl = (p * (p * 8).log()).sum(1).mean()
    ours = ConfidencePenalty(0.3)(z, y)
    assert torch.allclose(ours, F.cross_entropy(z, y) + 0.3 * (kl - math.log(8)))


def test_threshold_and_ramp():
    z = torch.tensor([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([0, 0])
    extra = ConfidencePenalty(1.0, threshold=0.5, reduction="none")(z, y) - F.cross_entropy(z, y, reduction="none")
    assert extra[0] > 0.4
    assert extra[1] == 0
    loss = ConfidencePenalty(1.0, ramp=4)
    ce = F.cross_entropy(z, y)
    assert torch.allclose(loss(z, y), ce)
    for _ in range(2):
        loss.step()
    half = loss(z, y) - ce
    resumed = ConfidencePenalty(1.0, ramp=4)
    resumed.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert torch.allclose(resumed(z, y) - ce, half)
    for _ in range(7):
        loss.step()
    assert torch.allclose(loss(z, y) - ce, 2 * half)


def test_masked_class_and_bad_input():
    z = torch.tensor([[1.0, 0.0, -torch.inf]], requires_grad=True)
    loss = ConfidencePenalty()(z, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert z.grad[:, :2].isfinite().all()
    with pytest.raises(ValueError, match="not negative"):
        ConfidencePenalty(-1)
