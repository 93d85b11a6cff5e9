"""SIREN: closed form and derivatives, the distributions the initialisation promises, precision, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.activations.siren import Sine, SineLayer, SirenNet, coordinate_grid, siren_init_


def scalar_net(x: list[float], net: SirenNet) -> list[float]:
    """One point through the network with Python floats only."""
    *sines, last = net.layers
    for layer in sines:
        w, b = layer.linear.weight.tolist(), layer.linear.bias.tolist()
        z = [sum(wi * xi for wi, xi in zip(row, x, strict=True)) + bi for row, bi in zip(w, b, strict=True)]
        x = [math.sin(layer.act.omega_0 * v) for v in z]
    w, b = last.weight.tolist(), last.bias.tolist()
    return [sum(wi * xi for wi, xi in zip(row, x, strict=True)) + bi for row, bi in zip(w, b, strict=True)]


def test_derivatives_are_shifted_sines(parity):
    x = torch.linspace(-2, 2, 401, dtype=torch.float64, requires_grad=True)
    y = Sine(7.0)(x)
    first = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    p = x.detach() * 7
    error = max(
        float((y.detach() - p.sin()).abs().max()),
        float((first.detach() - 7 * (p + math.pi / 2).sin()).abs().max()),
        float((second - 49 * (p + math.pi).sin()).abs().max()),
    )
    parity("siren", error, 1e-12, oracle="value, first and second derivative in closed form")


def test_scalar_arithmetic(parity):
    net = SirenNet(3, 2, 5, 2, omega_0=20.0, first_omega_0=11.0).double()
    x = torch.rand(4, 3, dtype=torch.float64) * 2 - 1
    expected = torch.tensor([scalar_net(row, net) for row in x.tolist()], dtype=torch.float64)
    parity("siren_net", (net(x) - expected).detach().abs().max(), 1e-10, oracle="Python floats, point by point")


def test_initialisation_keeps_the_arcsine_law_at_every_depth():
    net = SirenNet(2, 1, 256, 6)
    x = torch.rand(4096, 2) * 2 - 1
    for layer in net.layers[:-1]:
        x = layer(x)
        assert float(x.detach().std()) == pytest.approx(math.sqrt(0.5), abs=0.03)
        # Arcsine law: a third of the mass lies within |y| < 1/2.
        assert float((x.abs() < 0.5).float().mean()) == pytest.approx(1 / 3, abs=0.03)


def test_bounds_of_the_initialisation():
    first = siren_init_(nn.Linear(50, 2000), is_first=True).weight.detach()
    hidden = siren_init_(nn.Linear(50, 2000), omega_0=12.0).weight.detach()
    assert float(first.abs().max()) == pytest.approx(1 / 50, rel=1e-3)
    assert float(hidden.abs().max()) == pytest.approx(math.sqrt(6 / 50) / 12, rel=1e-3)
    last = SirenNet(2, 200, 50, 1).layers[-1].requires_grad_(False)
    assert float(last.weight.abs().max()) == pytest.approx(math.sqrt(6 / 50) / 30, rel=1e-2)


def test_second_derivatives_reach_the_parameters():
    net = SirenNet(2, 1, 8, 1).double()
    x = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)

    def laplacian(*parameters):
        names = [n for n, _ in net.named_parameters()]
        y = torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))
        g = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
        return sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))

    assert torch.autograd.gradcheck(
        laplacian, [p.detach().clone().requires_grad_() for p in net.parameters()], atol=1e-3
    )


def test_the_phase_survives_autocast():
    layer = SineLayer(64, 64)
    x = torch.randn(10, 64).sin()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.clone()))
        inside = layer(x)
    assert torch.equal(inside, layer(x))  # no rounding of the phase


def test_half_precision_sine_uses_a_float32_argument():
    x = torch.linspace(-1, 1, 200).bfloat16()
    assert torch.equal(Sine()(x), torch.sin(30 * x.float()).bfloat16())


def test_grid():
    grid = coordinate_grid(3, 4)
    assert grid.shape == (12, 2)
    assert grid[1].tolist() == pytest.approx([-1.0, -1 / 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sine(0.0), "omega_0 > 0"),
        (lambda: SirenNet(0), "siren_net needs"),
        (lambda: SirenNet(hidden_layers=-1), "siren_net needs"),
        (lambda: SirenNet(2)(torch.zeros(3, 3)), "2 coordinates"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
