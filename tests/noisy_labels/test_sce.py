"""SCE against its definition with an explicit clipped one-hot label."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.noisy_labels.sce import SCE


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 1.0), (6.0, 0.1), (0.0, 1.0)])
def test_clipped_one_hot(parity, alpha, beta):
    z, y = torch.randn(15, 5, dtype=torch.float64, requires_grad=True), torch.randint(0, 5, (15,))
    log_q = F.one_hot(y, 5).double().clamp_min(1e-4).log()
    p = z.softmax(1)
    expected = alpha * F.cross_entropy(z, y) - beta * (p * log_q).sum(1).mean()
    got = SCE(alpha, beta)(z, y)
    error = (got - expected).abs().detach()
    pair = [torch.autograd.grad(v, z, retain_graph=True)[0] for v in (got, expected)]
    error = torch.maximum(error, (pair[0] - pair[1]).abs().max())
    parity("sce", error, 1e-12, oracle="explicit reverse cross-entropy against the one-hot label clipped at 1e-4")


def test_fitted_and_hopeless_samples_are_finite():
    z = torch.tensor([[400.0, -400.0], [-400.0, 400.0]], requires_grad=True)
    losses = SCE(reduction="none")(z, torch.tensor([0, 0]))
    losses.sum().backward()
    assert float(losses[0]) == 0
    assert float(losses[1]) == pytest.approx(0.1 * 800 + 9.2103, abs=1e-3)
    assert z.grad.isfinite().all()


def test_bad_input():
    for args in ((-1, 1), (1, -1), (1, 1, 0.0)):
        with pytest.raises(ValueError, match="sce needs"):
            SCE(*args)
