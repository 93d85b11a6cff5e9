"""Spatial transformer: the double sum of the paper, exact rotations, splines through their points, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.upsampling.spatial_transformer import TRANSFORMS, SpatialTransformer


def double_sum(u: torch.Tensor, matrix: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Equation (5) for every target pixel, with a projective 3 x 3 matrix; zeros outside."""
    c, h, w = u.shape
    out = torch.zeros_like(u)
    rows, cols = torch.arange(h, dtype=u.dtype), torch.arange(w, dtype=u.dtype)
    for i in range(h):
        for j in range(w):
            unit = (lambda k, n: 2 * k / (n - 1) - 1) if align_corners else (lambda k, n: (2 * k + 1) / n - 1)
            x, y, z = matrix @ torch.tensor([unit(j, w), unit(i, h), 1.0], dtype=u.dtype)
            pixel = (lambda v, n: (v + 1) * (n - 1) / 2) if align_corners else (lambda v, n: ((v + 1) * n - 1) / 2)
            px, py = pixel(x / z, w), pixel(y / z, h)
            kernel = (1 - (py - rows).abs()).clamp_min(0)[:, None] * (1 - (px - cols).abs()).clamp_min(0)[None]
            out = out.index_put((torch.arange(c), torch.tensor(i), torch.tensor(j)), (u * kernel).sum((1, 2)))
    return out


MATRICES = {
    "affine": lambda t: torch.cat([t.view(2, 3), torch.tensor([[0.0, 0, 1]], dtype=t.dtype)]),
    "attention": lambda t: torch.stack(
        [t[0], 0 * t[0], t[1], 0 * t[0], t[0], t[2], 0 * t[0], 0 * t[0], 0 * t[0] + 1]
    ).view(3, 3),
    "projective": lambda t: torch.cat([t, torch.ones(1, dtype=t.dtype)]).view(3, 3),
}


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("transform", list(MATRICES))
def test_double_sum(parity, transform, align_corners):
    m = SpatialTransformer(2, transform, align_corners=align_corners).double()
    theta = torch.tensor(TRANSFORMS[transform], dtype=torch.float64)
    theta = (theta + 0.2 * torch.randn(len(theta), dtype=torch.float64)).requires_grad_()
    u = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    m.head.bias.data.copy_(theta.detach())
    y, expected = m(u[None])[0], double_sum(u, MATRICES[transform](theta), align_corners)
    g = torch.randn_like(y)
    got = torch.autograd.grad((y * g).sum(), [u, m.head.bias])
    want = torch.autograd.grad((expected * g).sum(), [u, theta])
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("spatial_transformer", error, 1e-10, oracle="the paper's double sum, pixel by pixel, gradients included")


@pytest.mark.parametrize("transform", list(TRANSFORMS))
@pytest.mark.parametrize("align_corners", [True, False])
def test_starts_as_the_identity(transform, align_corners):
    m = SpatialTransformer(3, transform, align_corners=align_corners).double()
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    assert torch.allclose(m(x), x, atol=1e-6 if transform == "tps" else 1e-12)


def test_quarter_turn_and_zoom():
    m = SpatialTransformer(1, align_corners=False).double()
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    c, s = round(math.cos(math.pi / 2)), 1.0
    m.head.bias.data.copy_(torch.tensor([c, s, 0, -s, c, 0]))
    assert torch.allclose(m(x), torch.rot90(x, -1, (2, 3)), atol=1e-12)
    m.head.bias.data.copy_(torch.tensor([0.5, 0, 0, 0, 0.5, 0]))  # output to input: a scale below 1 zooms in
    centre = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    centre[..., 2:4, 2:4] = 1
    assert float(m(centre).detach().sum()) > 3 * float(centre.sum())


def test_spline_passes_through_its_points():
    m = SpatialTransformer(1, "tps", control_points=3, align_corners=True).double()
    shift = 0.1 * torch.randn(1, 18, dtype=torch.float64)
    grid = m.grid(shift, 5, 5)[0, ::2, ::2].reshape(9, 2)  # every second point of a 5 x 5 grid is a control point
    assert torch.allclose(grid, m.control.double() + shift.view(9, 2), atol=1e-5)
    affine = m.control.double() @ torch.tensor([[0.1, 0.2], [0.0, -0.1]], dtype=torch.float64)
    everywhere = m.grid(affine.view(1, -1), 4, 4)[0].reshape(16, 2)
    plain = m.grid(torch.zeros(1, 18, dtype=torch.float64), 4, 4)[0].reshape(16, 2)
    expected = plain + plain @ torch.tensor([[0.1, 0.2], [0.0, -0.1]], dtype=torch.float64)
    assert torch.allclose(everywhere, expected, atol=1e-5)  # an affine displacement bends nothing


def test_front_end_sizes_and_gradients():
    m = SpatialTransformer(3, output_size=(4, 6))
    x = torch.randn(2, 3, 9, 8)
    y = m(x)
    assert y.shape == (2, 3, 4, 6)
    y.square().sum().backward()
    assert m.head.weight.grad.abs().sum() > 0
    own = SpatialTransformer(
        3, localiser=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 5)), localiser_features=5
    )
    assert own(x).shape == x.shape


@pytest.mark.parametrize(
    "bad", [{"transform": "rigid"}, {"in_channels": 0}, {"control_points": 1}, {"localiser_features": 3}]
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="spatial_transformer"):
        SpatialTransformer(**({"in_channels": 3} | bad))


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        SpatialTransformer(3)(torch.zeros(1, 2, 4, 4))
