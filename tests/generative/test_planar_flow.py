"""PlanarFlow against the Jacobian that autograd computes, and against normflows."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from zoo.generative._flows import ENERGIES, FlowChain, free_energy, log_normaliser, wall
from zoo.generative.planar_flow import PlanarFlow, constrained_u


def flow(dim: int, seed: int) -> PlanarFlow:
    torch.manual_seed(seed)
    made = PlanarFlow(dim).double()
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
    parity("planar_flow", worst, 1e-9, oracle="log-determinant of autograd's Jacobian")


def test_gradients_are_finite_and_right():
    f = flow(3, 1)
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: f(x), (z,))
    out, log_det = f(z)
    (out.sum() + log_det.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in f.parameters())


def test_injective_on_a_line():
    """Invertibility seen from outside: along w the map is increasing, whatever the raw parameters."""
    for seed in range(200):
        f = flow(2, seed)
        with torch.no_grad():
            for parameter in f.parameters():
                parameter.mul_(3)
        t = torch.linspace(-8, 8, 400, dtype=torch.float64)
        origin, direction = torch.zeros(2, dtype=torch.float64), f.w.detach() / f.w.detach().norm()
        image = (f(origin + t[:, None] * direction)[0] @ direction).detach()
        assert (image.diff() > 0).all(), seed


def test_compiles_and_copies():
    f = PlanarFlow(4)
    z = torch.randn(6, 4)
    compiled = torch.compile(f, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), f(z))
    torch.testing.assert_close(copy.deepcopy(f)(z), f(z))
    with torch.device("meta"):
        assert PlanarFlow(3).dim == 3


def test_bad_input():
    with pytest.raises(ValueError, match="dim >= 1, received 0"):
        PlanarFlow(0)
    with pytest.raises(ValueError, match=r"\(N, 3\), received \(4, 2\)"):
        PlanarFlow(3)(torch.zeros(4, 2))


def test_constraint_divides_by_the_squared_norm():
    generator = torch.Generator().manual_seed(3)
    wrong = 0
    for _ in range(2000):
        u, w = (3 * torch.randn(2, generator=generator, dtype=torch.float64) for _ in range(2))
        dot = float(w @ u)
        hat = constrained_u(u, w)
        assert float(w @ hat) == pytest.approx(-1 + math.log1p(math.exp(dot)), abs=1e-6)
        assert float(w @ hat) > -1 - 1e-12
        # what several implementations do: divide by the norm
        wrong += float(w @ (u + (w @ hat - dot) * w / w.norm())) < -1
    assert wrong > 50


def test_limits():
    z = torch.randn(3, 2)
    f = PlanarFlow(2)
    with torch.no_grad():
        f.w.zero_()
        f.b.fill_(0.5)
    out, log_det = f(z)  # a translation
    torch.testing.assert_close(out, z + f.u * torch.tanh(torch.tensor(0.5)))
    assert torch.equal(log_det, torch.zeros(3))


def test_normflows():
    flows = pytest.importorskip("normflows")
    ours = flow(3, 5)
    theirs = flows.flows.Planar(
        (3,), act="tanh", u=ours.u.detach()[None], w=ours.w.detach()[None], b=ours.b.detach()[None]
    )
    z = torch.randn(7, 3, dtype=torch.float64)
    found, wanted = ours(z), theirs(z)
    torch.testing.assert_close(found[0], wanted[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(found[1], wanted[1], atol=1e-9, rtol=0)


def test_energies():
    """U1 is proper, the other three are not: their integral doubles with the box."""
    assert log_normaliser(ENERGIES["u1"], 8.0).exp() == pytest.approx(6.537, abs=2e-3)
    for name in ("u2", "u3", "u4"):
        small, large = (log_normaliser(ENERGIES[name], b, 800).exp() for b in (4.0, 8.0))
        assert large / small == pytest.approx(2, abs=0.06)
        assert log_normaliser(wall(ENERGIES[name]), 8.0, 800).exp() < 1.2 * small
    with pytest.raises(ValueError, match="plane"):
        ENERGIES["u1"](torch.zeros(3, 3))


def test_free_energy_of_the_identity():
    z = torch.randn(5, 2, dtype=torch.float64)
    chain = FlowChain([])
    normal = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    torch.testing.assert_close(free_energy(chain, lambda x: -normal.log_prob(x), z), torch.zeros(5).double())


def test_log_determinant_at_the_constraint():
    """Where w^T u rounds to -1 the log-determinant stays finite and right: ln(softplus(dot)) on the plane itself."""
    f = PlanarFlow(2)
    with torch.no_grad():
        f.w.copy_(torch.tensor([3.0, 4.0]))
        f.u.copy_(torch.tensor([-3.0, -4.0]))
        f.b.zero_()
    _, log_det = f(torch.zeros(1, 2))
    assert float(log_det.detach()) == pytest.approx(-25.0, abs=1e-4)


def test_free_energy_trains_the_chain():
    """Gradients of the bound reach every parameter, and steps along them lower it: one mode of U1 is found at once."""
    torch.manual_seed(0)
    chain = FlowChain(PlanarFlow(2, init_std=0.5) for _ in range(2))
    z, optimizer, values = torch.randn(512, 2), torch.optim.Adam(chain.parameters(), lr=0.05), []
    for _ in range(60):
        loss = free_energy(chain, ENERGIES["u1"], z).mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in chain.parameters())
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0] - 1
    assert values[-1] > -float(log_normaliser(ENERGIES["u1"]))  # the bound


def test_empty_batch():
    out, log_det = PlanarFlow(3)(torch.zeros(0, 3))
    assert out.shape == (0, 3)
    assert log_det.shape == (0,)
