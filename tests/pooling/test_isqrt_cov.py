"""iSQRT-COV against the scalar recurrence on eigenvalues, limits, gradients, and degenerate input."""

from __future__ import annotations

import pytest
import torch

from zoo.pooling.isqrt_cov import ISqrtCov, newton_schulz_sqrt


def by_eigenvalues(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Each sample alone: unbiased-free covariance in loops, then the recurrence on scalars of the spectrum."""
    out = []
    for sample in x.flatten(2):
        c, m = sample.shape
        mean = [sum(row.unbind()) / m for row in sample]
        sigma = torch.stack([
            torch.stack([sum((sample[i] - mean[i]) * (sample[j] - mean[j])) / m for j in range(c)]) for i in range(c)
        ])  # fmt: skip
        trace = sigma.trace()
        values, vectors = torch.linalg.eigh(sigma / trace)
        y, z = values, torch.ones_like(values)
        for _ in range(steps):
            y, z = y * (3 - z * y) / 2, (3 - z * y) / 2 * z
        root = vectors @ torch.diag(y) @ vectors.T * trace.sqrt()
        out.append(torch.cat([root[i, i:] for i in range(c)]))
    return torch.stack(out)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_scalar_recurrence_on_the_spectrum(parity, steps):
    x = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    pool = ISqrtCov(4, num_iters=steps, eps=0.0)
    y, expected = pool(x), by_eigenvalues(x, steps)
    weight = torch.randn_like(y)
    got, want = (torch.autograd.grad((v * weight).sum(), x)[0] for v in (y, expected))
    error = max(float((y - expected).detach().abs().max()), float((got - want).abs().max()))
    parity("isqrt_cov", error, 1e-10, oracle="recurrence on eigenvalues sample by sample, gradient included")


def test_many_steps_give_the_root_and_five_do_not():
    a = torch.randn(2, 6, 25, dtype=torch.float64)
    sigma = a @ a.mT / 25
    root = newton_schulz_sqrt(sigma, 25)
    assert torch.allclose(root @ root, sigma, atol=1e-9)
    off = [((newton_schulz_sqrt(sigma, n) - root).norm() / root.norm()).item() for n in (1, 3, 5, 9)]
    assert off == sorted(off, reverse=True)
    assert off[2] > 1e-4


def test_gradcheck_twice():
    x = torch.randn(1, 2, 1, 4, dtype=torch.float64, requires_grad=True)
    pool = ISqrtCov(2, num_iters=3)
    assert torch.autograd.gradcheck(pool, x)
    assert torch.autograd.gradgradcheck(pool, x)


def test_constant_map_is_zero_with_finite_gradient():
    x = torch.full((2, 4, 3, 3), 0.7, requires_grad=True)
    y = ISqrtCov(4)(x)
    y.square().sum().backward()
    assert float(y.detach().abs().max()) < 1e-5
    assert torch.isfinite(x.grad).all()
    zero = torch.zeros(1, 4, 1, 1, requires_grad=True)
    ISqrtCov(4)(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_order_of_positions_and_offsets_do_not_matter():
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    pool = ISqrtCov(5)
    shuffled = x.flatten(2)[:, :, torch.randperm(16)].view_as(x)
    assert torch.allclose(pool(x), pool(shuffled), atol=1e-12)
    assert torch.allclose(pool(x), pool(x + 3.0), atol=1e-10)
    assert torch.allclose(pool(2 * x), 2 * pool(x), atol=1e-10)  # a square root of a covariance is of first order


def test_isometric_keeps_inner_products():
    x, y = torch.randn(2, 1, 4, 5, 5, dtype=torch.float64)
    pool, full = (
        ISqrtCov(4, isometric=True),
        lambda v: newton_schulz_sqrt(torch.cov(v.flatten(2)[0], correction=0)[None]),
    )
    assert float(pool(x) @ pool(y).T) == pytest.approx(float((full(x) * full(y)).sum()), rel=1e-10)


def test_reduction_sizes_and_float32_under_autocast():
    pool = ISqrtCov(24, reduction=8)
    assert pool.out_features == 36
    assert ISqrtCov(512).out_features == 32_896
    assert isinstance(ISqrtCov(8, reduction=8).reduce, torch.nn.Identity)
    assert pool(torch.randn(3, 24, 7, 5)).shape == (3, 36)
    pool = ISqrtCov(8).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pool(x), pool(x.clone()))
        inside = pool(x)
    assert torch.equal(inside, pool(x))


@pytest.mark.parametrize(
    "bad", [{"in_channels": 0}, {"in_channels": 4, "num_iters": 0}, {"in_channels": 4, "reduction": 0}]
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="isqrt_cov needs"):
        ISqrtCov(**bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        ISqrtCov(4)(torch.randn(2, 3, 4, 4))
