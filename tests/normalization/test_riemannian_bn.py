"""SGD-G and Adam-G against rotations by the matrix exponential, and torch's SGD off the manifold."""

import copy

import pytest
import torch
from torch import nn

from zoo.normalization.riemannian_bn import SGDG, AdamG, exp_map, grassmann_groups, riemannian_gradient


def rotation(y, d):
    """Rotate in the plane of y and d by the angle ||d||: exp(d y^T - y d^T)."""
    return torch.linalg.matrix_exp(torch.outer(d, y) - torch.outer(y, d))


def tangent_gradient(rows, grads, omega, clip):
    gram = rows @ rows.T
    out = []
    for i, (y, g) in enumerate(zip(rows, grads, strict=True)):
        g = g + 2 * omega * (sum(gram[i, j] * rows[j] for j in range(len(rows))) - y)
        h = g - (y @ g) * y
        out.append(h * min(1.0, clip / float(h.norm())))
    return out


def problem():
    w = nn.Parameter(nn.functional.normalize(torch.randn(3, 8, dtype=torch.float64), dim=1).view(3, 2, 2, 2))
    target = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    return w, lambda: ((w - target) ** 3).sum()


def test_sgd_g(parity):
    w, loss = problem()
    optimizer = SGDG([{"params": [w], "grassmann": True}], lr=0.3, momentum=0.9, omega=0.05, grad_clip=0.7)
    rows, d = w.detach().flatten(1).clone(), [torch.zeros(8, dtype=torch.float64)] * 3
    error = 0.0
    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        hs = tangent_gradient(rows, w.grad.flatten(1), 0.05, 0.7)
        d = [0.9 * a - 0.3 * h for a, h in zip(d, hs, strict=True)]
        turns = [rotation(y, v) for y, v in zip(rows, d, strict=True)]
        rows, d = (
            torch.stack([r @ y for r, y in zip(turns, rows, strict=True)]),
            [r @ v for r, v in zip(turns, d, strict=True)],
        )
        optimizer.step()
        error = max(error, float((w.detach().flatten(1) - rows).abs().max()))
    parity("riemannian_bn", error, 1e-12, oracle="rotations by the matrix exponential, row by row")


def test_adam_g(parity):
    w, loss = problem()
    optimizer = AdamG([{"params": [w], "grassmann": True}], lr=0.1, omega=0.05, grad_clip=0.7)
    rows = w.detach().flatten(1).clone()
    m, v = [torch.zeros(8, dtype=torch.float64)] * 3, [0.0] * 3
    error = 0.0
    for t in range(1, 6):
        optimizer.zero_grad()
        loss().backward()
        hs = tangent_gradient(rows, w.grad.flatten(1), 0.05, 0.7)
        new = []
        for i, (y, h) in enumerate(zip(rows, hs, strict=True)):
            m[i] = 0.9 * m[i] + 0.1 * h
            v[i] = 0.99 * v[i] + 0.01 * float(h @ h)
            turn = rotation(y, -0.1 * (1 - 0.99**t) ** 0.5 / (1 - 0.9**t) * m[i] / (v[i] + 1e-8) ** 0.5)
            new.append(turn @ y)
            m[i] = turn @ m[i]
        rows = torch.stack(new)
        optimizer.step()
        error = max(error, float((w.detach().flatten(1) - rows).abs().max()))
    parity("adam_g", error, 1e-12, oracle="rotations by the matrix exponential, scalar second moment, row by row")


def test_orthogonality_term_is_a_gradient():
    y = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(0.15 * (y @ y.T - torch.eye(4)).square().sum(), y)
    unit = nn.functional.normalize(y.detach(), dim=1)
    (expected,) = torch.autograd.grad(
        0.15 * ((v := unit.clone().requires_grad_()) @ v.T - torch.eye(4)).square().sum(), v
    )
    expected = expected - (unit * expected).sum(1, keepdim=True) * unit
    assert torch.allclose(riemannian_gradient(unit, torch.zeros_like(unit), 0.3, None), expected, atol=1e-12)


def test_geodesic_keeps_length_tangency_and_survives_zero():
    y = nn.functional.normalize(torch.randn(5, 7, dtype=torch.float64), dim=1)
    d = torch.randn(5, 7, dtype=torch.float64)
    d = d - (d * y).sum(1, keepdim=True) * y
    d[0] = 0
    new, u, length = exp_map(y, d)
    assert torch.allclose(new.norm(dim=1), torch.ones(5, dtype=torch.float64), atol=1e-14)
    assert (new * u).sum(1).abs().max() < 1e-14
    assert torch.allclose((length * u).norm(dim=1), d.norm(dim=1))
    assert torch.equal(new[0], y[0])


@pytest.mark.parametrize("cls", [SGDG, AdamG])
def test_off_the_manifold_it_is_nesterov_sgd(cls):
    ours, theirs = (nn.Parameter(torch.arange(6.0, dtype=torch.float64).view(2, 3) / 5) for _ in range(2))
    pair = (
        (ours, cls([ours], lr=0.1, weight_decay=0.2)),
        (theirs, torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.2, nesterov=True)),
    )
    for _ in range(4):
        for p, optimizer in pair:
            optimizer.zero_grad()
            p.pow(3).sum().backward()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-14)


def net():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, bias=False),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10),
    )  # fmt: skip


def test_groups():
    model = net()
    x = torch.randn(4, 1, 8, 8)
    y = model(x)
    groups = grassmann_groups(model)
    assert [len(g["params"]) for g in groups] == [1, 2, 5]  # 16 filters of 9 values are too many for the manifold
    assert groups[0]["params"][0] is model[3].weight
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.2, 0.0), (0.01, 5e-4), (0.01, 0.0)]
    assert torch.allclose(model(x), y, atol=1e-3)  # batch norm undoes the scaling, up to its eps
    assert torch.allclose(model[3].weight.flatten(1).norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("cls", [SGDG, AdamG])
def test_trains_on_the_sphere_and_state_travels(cls):
    model = net()
    optimizer = cls(grassmann_groups(model))
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    losses = []

    def step(model, optimizer):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    losses = [step(model, optimizer) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert (model[3].weight.flatten(1).norm(dim=1) - 1).abs().max() < 1e-6
    twin = copy.deepcopy(model)
    other = cls(grassmann_groups(twin))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert step(model, optimizer) == pytest.approx(step(twin, other), rel=1e-5)
    assert torch.allclose(model[3].weight, twin[3].weight, atol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="no convolution with out < fan-in in Linear"):
        grassmann_groups(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="lr >= 0"):
        SGDG([nn.Parameter(torch.zeros(2))], lr=-1)
    with pytest.raises(ValueError, match="beta2"):
        AdamG([nn.Parameter(torch.zeros(2))], beta2=1.0)
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.zeros(2)
    optimizer = SGDG([p], grassmann=True)
    with pytest.raises(ValueError, match="received \\(2,\\)"):
        optimizer.step()
