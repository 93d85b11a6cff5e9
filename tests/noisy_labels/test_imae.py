"""IMAE against MAE's gradient rescaled by the ratio of weights, and the weight variances of the paper's slides."""

from __future__ import annotations

import pytest
import torch

from zoo.noisy_labels.derivative_manipulation import DerivativeManipulation
from zoo.noisy_labels.imae import IMAE


@pytest.mark.parametrize("T", [2.0, 8.0, 16.0])
def test_rescaled_mae(parity, T):
    """dIMAE = dMAE * w_IMAE / w_MAE with L_MAE = 2 (1 - p_y), whose gradient autograd takes through softmax."""
    z, y = torch.randn(30, 6, dtype=torch.float64, requires_grad=True), torch.randint(0, 6, (30,))
    p = z.softmax(1)[torch.arange(30), y]
    (mae,) = torch.autograd.grad((2 * (1 - p)).sum(), z)
    p = p.detach()
    expected = mae * (torch.exp(T * p * (1 - p)) / (4 * p * (1 - p)))[:, None]
    (got,) = torch.autograd.grad(IMAE(T, reduction="sum")(z, y), z)
    error = (got - expected).abs().max()
    parity("imae", error, 1e-12, oracle="autograd of 2 (1 - p_y), rescaled by the ratio of the weights")


def test_preset_of_derivative_manipulation():
    z, y = torch.randn(9, 5), torch.randint(0, 5, (9,))
    assert torch.equal(IMAE(8.0)(z, y), DerivativeManipulation(beta=8.0, lam=1.0)(z, y))
    assert not torch.equal(IMAE(8.0)(z, y), DerivativeManipulation(beta=8.0, lam=0.5)(z, y))


def test_uncertain_samples_weigh_most():
    p = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    z = torch.stack([p.log(), (1 - p).log()], 1).requires_grad_()
    (gradient,) = torch.autograd.grad(IMAE(reduction="sum")(z, torch.zeros(3, dtype=torch.int64)), z)
    w = gradient.abs().sum(1)
    assert w[1] == pytest.approx(torch.e**2)
    assert float(w[0]) == pytest.approx(float(w[2]))
    assert w[1] > w[0]


def test_bad_temperature():
    with pytest.raises(ValueError, match="finite"):
        IMAE(float("nan"))
