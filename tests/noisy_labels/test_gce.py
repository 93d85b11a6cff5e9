"""GCE against the power form, its limits, its truncation and extreme logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.noisy_labels.gce import GCE


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_power_form(parity, q):
    z, y = torch.randn(20, 6, dtype=torch.float64, requires_grad=True), torch.randint(0, 6, (20,))
    got = GCE(q, reduction="none")(z, y)
    p = z.detach().softmax(1)
    py = p[torch.arange(20), y]
    error = (got.detach() - (1 - py**q) / q).abs().max()
    onehot = torch.zeros_like(p)
    onehot[torch.arange(20), y] = 1
    closed = py[:, None] ** q * (p - onehot)  # p_y^q times the gradient of cross-entropy
    error = torch.maximum(error, (torch.autograd.grad(got.sum(), z)[0] - closed).abs().max())
    parity("gce", error, 1e-12, oracle="(1 - p^q) / q; gradient p^q times that of cross-entropy")


def test_limits():
    z, y = torch.randn(20, 6, dtype=torch.float64), torch.randint(0, 6, (20,))
    assert torch.allclose(GCE(1e-9)(z, y), F.cross_entropy(z, y), atol=1e-7)
    assert torch.allclose(GCE(1.0)(z, y), 1 - z.softmax(1)[torch.arange(20), y].mean())


def test_truncation_cuts_the_gradient_at_k():
    p = torch.tensor([0.4, 0.6], dtype=torch.float64)
    z = torch.stack([p.log(), (1 - p).log()], 1).requires_grad_()
    losses = GCE(0.7, k=0.5, reduction="none")(z, torch.tensor([0, 0]))
    losses.sum().backward()
    assert float(losses[0]) == pytest.approx((1 - 0.5**0.7) / 0.7)
    assert float(losses[1]) == pytest.approx((1 - 0.6**0.7) / 0.7)
    assert not z.grad[0].any()
    assert z.grad[1].any()


def test_extreme_logits():
    z = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], requires_grad=True)
    loss = GCE()(z, torch.tensor([0, 0]))
    loss.backward()
    assert float(loss) == pytest.approx(0.5 / 0.7)
    assert z.grad.isfinite().all()


def test_bad_input():
    for q, k in ((0, 0), (1.5, 0), (0.7, 1.0), (0.7, -0.1)):
        with pytest.raises(ValueError, match="gce needs"):
            GCE(q, k)
