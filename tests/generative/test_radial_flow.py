"""RadialFlow against the Jacobian that autograd computes, and against normflows."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from zoo.generative.radial_flow import RadialFlow


def flow(dim: int, seed: int) -> RadialFlow:
    torch.manual_seed(seed)
    made = RadialFlow(dim).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=1.5)
    return made


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_determinant(parity, dim):
    worst = 0.0
    for seed in range(20):
        f, z = flow(dim, seed), 2 * torch.randn(4, dim, dtype=torch.float64)
        _, log_det = f(z)
        for row, found in zip(z, log_det, strict=True):
            jacobian = torch.autograd.functional.jacobian(lambda x, f=f: f(x[None])[0][0], row)
            sign, wanted = torch.linalg.slogdet(jacobian)
            assert sign > 0
            worst = max(worst, float((found - wanted).abs().detach()))
    parity("radial_flow", worst, 1e-9, oracle="log-determinant of autograd's Jacobian")


def test_gradients_are_finite_and_right():
    f = flow(3, 1)
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: f(x), (z,))
    out, log_det = f(z)
    (out.sum() + log_det.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in f.parameters())


def test_injective_on_a_line():
    """Invertibility seen from outside: along a ray from z0 the map is increasing, whatever the raw parameters."""
    for seed in range(200):
        f = flow(2, seed)
        with torch.no_grad():
            for parameter in f.parameters():
                parameter.mul_(3)
        t = torch.linspace(-8, 8, 400, dtype=torch.float64)
        origin, direction = f.z0.detach(), torch.tensor([0.6, 0.8], dtype=torch.float64)
        image = (f(origin + t[:, None] * direction)[0] @ direction).detach()
        assert (image.diff() > 0).all(), seed


def test_compiles_and_copies():
    f = RadialFlow(4)
    z = torch.randn(6, 4)
    compiled = torch.compile(f, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), f(z))
    torch.testing.assert_close(copy.deepcopy(f)(z), f(z))
    with torch.device("meta"):
        assert RadialFlow(3).dim == 3


def test_bad_input():
    with pytest.raises(ValueError, match="dim >= 1, received 0"):
        RadialFlow(0)
    with pytest.raises(ValueError, match=r"\(N, 3\), received \(4, 2\)"):
        RadialFlow(3)(torch.zeros(4, 2))


def test_starts_as_the_identity():
    z = torch.randn(4, 3)
    out, log_det = RadialFlow(3)(z)
    torch.testing.assert_close(out, z)
    torch.testing.assert_close(log_det, torch.zeros(4))


def test_constraint():
    for seed in range(200):
        alpha, beta = flow(2, seed).constrained()
        assert alpha > 0
        assert beta > -alpha


def test_normflows():
    """normflows keeps beta and alpha in another parametrisation; its map with ours put in is the same."""
    flows = pytest.importorskip("normflows")
    ours = flow(3, 5)
    alpha, beta = (value.detach() for value in ours.constrained())
    theirs = flows.flows.Radial((3,), z_0=ours.z0.detach()[None]).double()
    with torch.no_grad():
        theirs.alpha.copy_(alpha)
        theirs.beta.copy_(torch.log(torch.expm1(beta + alpha)))
    assert float((F.softplus(theirs.beta) - theirs.alpha.abs()).detach()) == pytest.approx(float(beta))
    z = torch.randn(7, 3, dtype=torch.float64)
    found, wanted = ours(z), theirs(z)
    torch.testing.assert_close(found[0], wanted[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(found[1], wanted[1], atol=1e-9, rtol=0)


def test_sample_on_the_centre():
    f = RadialFlow(2)
    z = f.z0.detach()[None].clone().requires_grad_()
    out, log_det = f(z)
    (out.sum() + log_det.sum()).backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(f.z0.grad).all()


@pytest.mark.parametrize("raw", [-40.0, -5.0, 0.0, 30.0])
def test_any_raw_value_stays_invertible(raw):
    """Raw parameters far outside the constraint: radii keep their order and the log-determinant is finite off the centre."""
    f = RadialFlow(2).double()
    with torch.no_grad():
        f.raw_alpha.fill_(-2.0)
        f.raw_beta.fill_(raw)
    r = torch.linspace(0.01, 6, 300, dtype=torch.float64)
    out, log_det = f(f.z0.detach() + r[:, None] * torch.tensor([0.6, 0.8], dtype=torch.float64))
    assert ((out - f.z0).norm(dim=1).diff() > 0).all()
    assert torch.isfinite(log_det).all()


def test_empty_batch_and_wrong_shapes():
    out, log_det = RadialFlow(3)(torch.zeros(0, 3))
    assert out.shape == (0, 3)
    assert log_det.shape == (0,)
    for shape in ((3,), (2, 2), (1, 2, 3)):
        with pytest.raises(ValueError, match="radial_flow was made for"):
            RadialFlow(3)(torch.zeros(shape))
