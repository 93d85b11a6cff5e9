"""MPN-COV: P P = Sigma, gradients against finite differences and Lyapunov's equation, short rank, equal eigenvalues."""

from __future__ import annotations

import pytest
import torch

from zoo.pooling.mpn_cov import MPNCov, matrix_power


def spd(n: int, c: int = 5) -> torch.Tensor:
    a = torch.randn(n, c, 3 * c, dtype=torch.float64)
    return a @ a.mT / (3 * c)


def test_lyapunov(parity):
    """The root's differential solves P dP + dP P = dSigma; its adjoint by Kronecker products, sample by sample."""
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    sigma = torch.stack([torch.cov(s.flatten(1), correction=0) for s in x])
    sigma.retain_grad()
    root = matrix_power(sigma)
    g = torch.randn_like(root)
    g = g + g.mT
    (root * g).sum().backward()
    errors = [float((root @ root - sigma).detach().abs().max())]
    for p, gi, got in zip(root.detach(), g, sigma.grad, strict=True):
        eye = torch.eye(4, dtype=torch.float64)
        want = torch.linalg.solve(torch.kron(p, eye) + torch.kron(eye, p), gi.flatten()).view(4, 4)
        errors.append(float((got - want).abs().max()))
    rows, cols = torch.triu_indices(4, 4)
    errors.append(float((MPNCov(4)(x) - root[:, rows, cols]).detach().abs().max()))
    parity("mpn_cov", max(errors), 1e-10, oracle="P P = Sigma and the Lyapunov equation solved by Kronecker products")


@pytest.mark.parametrize("alpha", [0.5, 0.7, 0.25, 1.5])
def test_gradcheck(alpha):
    s = spd(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: matrix_power((a + a.mT) / 2, alpha), s)


@pytest.mark.parametrize("alpha", [0.5, 0.7])
def test_equal_and_nearly_equal_eigenvalues(alpha):
    for spread in (0.0, 1e-13, 1e-9, 1e-6):
        q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
        values = 2 + spread * torch.arange(4, dtype=torch.float64)
        s = ((q * values) @ q.T)[None].requires_grad_()
        g = torch.randn(1, 4, 4, dtype=torch.float64)
        g = g + g.mT
        got = torch.autograd.grad((matrix_power(s, alpha) * g).sum(), s)[0]
        assert torch.allclose(got, alpha * 2 ** (alpha - 1) * g, rtol=1e-5)  # d(s^a) = a s^(a-1) at s = 2 I


def test_fewer_positions_than_channels_is_finite_in_float32():
    x = torch.randn(2, 64, 3, 3).relu().requires_grad_()
    y = MPNCov(64)(x)
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    # |sqrt(S)|_F^2 = tr S: the upper triangle's squares with off-diagonals counted twice.
    full = MPNCov(64, isometric=True)(x).square().sum(1)
    assert torch.allclose(full, x.flatten(2).var(-1, correction=0).sum(1), rtol=1e-4)


def test_limits():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    rows, cols = torch.triu_indices(3, 3)
    plain = torch.stack([torch.cov(s.flatten(1), correction=0)[rows, cols] for s in x])
    assert torch.allclose(MPNCov(3, alpha=1.0)(x), plain, atol=1e-14)
    two = matrix_power(spd(2), 2.0)
    assert torch.isfinite(two).all()
    zero = torch.zeros(1, 3, 2, 2, requires_grad=True)
    y = MPNCov(3)(zero)
    y.sum().backward()
    assert float(y.detach().abs().max()) == 0
    assert torch.isfinite(zero.grad).all()


def test_agrees_with_many_newton_schulz_steps():
    from zoo.pooling.isqrt_cov import newton_schulz_sqrt

    s = spd(3)
    assert torch.allclose(matrix_power(s), newton_schulz_sqrt(s, 30), atol=1e-9)


def test_size_and_second_derivative_refused():
    assert MPNCov(512).out_features == 32_896
    x = torch.randn(2, 6, 4, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(MPNCov(6)(x).sum(), x, create_graph=True)


@pytest.mark.parametrize(
    "bad", [{"in_channels": 0}, {"in_channels": 3, "alpha": 0.0}, {"in_channels": 3, "reduction": 0}]
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="mpn_cov needs"):
        MPNCov(**bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        MPNCov(4)(torch.randn(2, 4))
