"""Forward and backward correction by plain loops, unbiasedness, the order of T's indices, estimation of T."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from zoo.noisy_labels.forward_correction import BackwardCorrection, ForwardCorrection, estimate_transition

T = [[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]]  # not symmetric, on purpose


def test_forward_plain_loop(parity):
    z, y = torch.randn(12, 3, dtype=torch.float64, requires_grad=True), torch.randint(0, 3, (12,))
    expected = []
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        expected.append(-math.log(sum(T[i][label] * math.exp(v) / total for i, v in enumerate(row))))
    got = ForwardCorrection(T, "none")(z, y)
    error = (got.detach() - torch.tensor(expected, dtype=torch.float64)).abs().max()
    assert torch.autograd.gradcheck(lambda v: ForwardCorrection(T)(v, y), (z,))
    parity("forward_correction", error, 1e-12, oracle="plain loop: -log sum_i T_iy p_i")


def test_backward_is_unbiased(parity):
    """Averaged over the noisy label by T, the corrected loss is the loss of the true label."""
    z = torch.randn(12, 3, dtype=torch.float64)
    loss = BackwardCorrection(T, "none")
    per_label = torch.stack([loss(z, torch.full((12,), j)) for j in range(3)], 1)
    error = torch.zeros((), dtype=torch.float64)
    for i in range(3):
        expected = sum(T[i][j] * per_label[:, j] for j in range(3))
        clean = F.cross_entropy(z, torch.full((12,), i), reduction="none")
        error = torch.maximum(error, (expected - clean).abs().max())
    assert float(per_label.min()) < 0
    parity("backward_correction", error, 1e-12, oracle="expectation over the noisy label equals the clean loss")


def test_identity_is_cross_entropy_and_half_precision_works():
    z, y = torch.randn(8, 4), torch.randint(0, 4, (8,))
    for cls in (ForwardCorrection, BackwardCorrection):
        assert torch.allclose(cls(torch.eye(4))(z, y), F.cross_entropy(z, y), atol=1e-6)
        assert cls(torch.eye(4))(z.bfloat16(), y).isfinite()
    extreme = torch.tensor([[-300.0, 300.0, 0.0]], requires_grad=True)
    loss = ForwardCorrection(T)(extreme, torch.tensor([0]))  # class 1 never turns into 0: nearly impossible, finite
    loss.backward()
    assert loss.isfinite()
    assert extreme.grad.isfinite().all()


def test_estimation():
    """Anchor points exist: the posterior of a sample that is surely class i is row i."""
    matrix = torch.tensor(T, dtype=torch.float64)
    clean = torch.cat([torch.eye(3), torch.full((50, 3), 1 / 3)]).double()
    assert torch.allclose(estimate_transition(clean @ matrix)[0], matrix[0])
    assert torch.allclose(estimate_transition(clean @ matrix)[1], matrix[1])
    outlier = torch.cat([clean, torch.tensor([[0.0, 0.0, 1.0]]).double() @ torch.eye(3).double()])
    robust = estimate_transition(torch.cat([clean.repeat(20, 1) @ matrix, outlier[-1:]]), quantile=0.97)
    assert torch.allclose(robust.sum(1), torch.ones(3, dtype=torch.float64))
    assert not torch.equal(robust[2], outlier[-1])


def test_bad_input():
    with pytest.raises(ValueError, match="transposed"):
        ForwardCorrection(torch.tensor(T).T)
    with pytest.raises(ValueError, match=r"\(K, K\)"):
        ForwardCorrection(torch.ones(2, 3) / 3)
    with pytest.raises(ValueError, match="singular"):
        BackwardCorrection(torch.full((4, 4), 0.25))
    with pytest.raises(ValueError, match="quantile"):
        estimate_transition(torch.rand(3, 3), 0)
