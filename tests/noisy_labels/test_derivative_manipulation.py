"""Derivative manipulation against the paper's gradient field in plain loops, numerical integrals and limits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, jvp, vmap

from zoo.noisy_labels.derivative_manipulation import DerivativeManipulation, derivative_manipulation


def closed_form(z, y, beta, lam):
    """The gradient of each sample's loss as the paper prints it, with softmax and a division by 1 - p_y."""
    out = torch.zeros_like(z)
    for i in range(len(z)):
        e = [math.exp(float(v) - float(z[i].max())) for v in z[i]]
        p = [v / sum(e) for v in e]
        py = p[int(y[i])]
        w = math.exp(beta * py**lam * (1 - py))
        for j in range(z.shape[1]):
            out[i, j] = -w / 2 if j == int(y[i]) else w / 2 * p[j] / (1 - py)
    return out


@pytest.mark.parametrize(("beta", "lam"), [(8.0, 0.5), (8.0, 1.0), (12.0, 2.0), (2.0, 0.0), (-0.5, 0.0), (0.0, 0.0)])
def test_closed_form(parity, beta, lam):
    z = (2 * torch.randn(40, 7, dtype=torch.float64)).requires_grad_()
    y = torch.randint(0, 7, (40,))
    DerivativeManipulation(beta, lam, reduction="sum")(z, y).backward()
    error = (z.grad - closed_form(z.detach(), y, beta, lam)).abs().max()
    parity("derivative_manipulation", error, 1e-12, oracle="the paper's gradient in plain loops")
    p = z.detach().softmax(1)[torch.arange(40), y]
    assert torch.allclose(z.grad.abs().sum(1), torch.exp(beta * p**lam * (1 - p)))
    assert z.grad.sum(1).abs().max() < 1e-12


def test_value_is_the_integral_of_the_gradient():
    """Trapezoid rule over the margin, far from the implementation's quadrature."""
    for beta, lam in ((8.0, 0.5), (12.0, 1.0), (2.0, 0.0)):
        for margin in (-55.0, -6.0, 0.0, 3.0, 55.0):
            t = torch.linspace(0, margin, 200_001, dtype=torch.float64)
            w = torch.exp(beta * torch.sigmoid(-t) ** lam * torch.sigmoid(t))
            expected = 0.5 * torch.trapezoid(w, t)
            z = torch.tensor([[0.0, margin]], dtype=torch.float64)
            got = derivative_manipulation(z, torch.tensor([0]), beta, lam)
            assert float(got) == pytest.approx(float(expected), abs=1e-6)


def test_derivatives_of_both_modes_and_second_order():
    z = (2 * torch.randn(5, 4, dtype=torch.float64)).requires_grad_()
    y, tangent = torch.tensor([0, 1, 2, 3, 0]), torch.randn(5, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: derivative_manipulation(v, y), (z,))
    assert torch.autograd.gradgradcheck(lambda v: derivative_manipulation(v, y), (z,))
    forward = jvp(lambda v: derivative_manipulation(v, y), (z.detach(),), (tangent,))[1]
    reverse = grad(lambda v: derivative_manipulation(v, y).sum())(z.detach())
    assert torch.allclose(forward, (reverse * tangent).sum(1))
    one = vmap(lambda a, b: derivative_manipulation(a[None], b[None])[0])(z.detach(), y)
    assert torch.equal(one, derivative_manipulation(z.detach(), y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits(dtype):
    z = torch.tensor([[1e30, 0, 0], [-1e30, 0, 0], [300, -300, 0], [0, 0, 90]], dtype=dtype, requires_grad=True)
    loss = DerivativeManipulation(reduction="none")(z, torch.tensor([0, 0, 0, 2]))
    loss.sum().backward()
    assert loss.isfinite().all()
    expected = torch.tensor([[-0.5, 0.25, 0.25], [-0.5, 0.25, 0.25], [-0.5, 0, 0.5], [0.25, 0.25, -0.5]])
    assert torch.allclose(z.grad.float(), expected, atol=1e-6)
    # What the paper's form gives in float32 at a fitted sample: 0 / 0.
    naive = z.detach().float().softmax(1)[0]
    assert (naive[1] / (1 - naive[0])).isnan()


def test_normalisation_constants():
    """The integral of the weight over p, by the midpoint rule."""
    for beta, lam in ((8.0, 1.0), (8.0, 0.5), (12.0, 1.0)):
        p = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
        area = float(torch.exp(beta * p**lam * (1 - p)).mean())
        assert DerivativeManipulation(beta, lam, normalize=True).scale == pytest.approx(1 / area, rel=1e-6)
    z, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
    ratio = DerivativeManipulation(8, 1)(z, y) / DerivativeManipulation(8, 1, normalize=True)(z, y)
    assert float(ratio) == pytest.approx(4.4197, rel=1e-4)


def test_beta_zero_weighs_all_samples_equally_and_is_not_cross_entropy():
    z = torch.tensor([[5.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    y = torch.tensor([0, 0])
    DerivativeManipulation(0.0, 0.0, reduction="sum")(z, y).backward()
    assert torch.allclose(z.grad.abs().sum(1), torch.ones(2))
    ce = torch.autograd.grad(F.cross_entropy(z, y, reduction="sum"), z)[0].abs().sum(1)
    assert ce[0] < 0.05 < ce[1]


def test_compiles_to_the_same_numbers():
    z, y = torch.randn(8, 5, requires_grad=True), torch.randint(0, 5, (8,))
    loss = DerivativeManipulation()
    value = loss(z, y)
    (expected,) = torch.autograd.grad(value, z)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(z, y)
    (got,) = torch.autograd.grad(compiled, z)
    assert torch.allclose(value, compiled, atol=1e-6)
    assert torch.allclose(expected, got, atol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="lam >= 0"):
        DerivativeManipulation(8, -1)
    with pytest.raises(ValueError, match="finite"):
        DerivativeManipulation(math.inf)
    with pytest.raises(ValueError, match="reduction"):
        DerivativeManipulation(reduction="avg")
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        DerivativeManipulation()(torch.randn(2, 3, 4), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="integer"):
        DerivativeManipulation()(torch.randn(2, 3), torch.rand(2))
