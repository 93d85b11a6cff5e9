"""What planar and radial flows share: chains, the four test energies, and the free energy that is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Energy = Callable[[Tensor], Tensor]


class FlowChain(nn.Module):
    """Flows one after another: ``(N, d) -> ((N, d), (N,))`` with the sum of their log-determinants."""

    def __init__(self, flows: Iterable[nn.Module]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(len(z))
        for flow in self.flows:
            z, log_det = flow(z)
            total = total + log_det
        return z, total


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """``(N, d) -> (N,)``."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


def free_energy(chain: nn.Module, energy: Energy, z0: Tensor, beta: float = 1.0) -> Tensor:
    r"""Equation 20 of 1505.05770 with a standard normal start, per sample ``(N,)``:

    :math:`\ln q_0(z_0) - \sum_k \ln|\det \partial f_k / \partial z_{k-1}| + \beta_t U(z_K)`. Its mean is
    :math:`KL(q_K \| e^{-U} / Z) - \ln Z` at ``beta=1``. ``beta`` < 1 anneals.
    """
    z, log_det = chain(z0)
    return standard_normal_log_prob(z0) - log_det + beta * energy(z)


def _check_plane(z: Tensor) -> None:
    if z.shape[-1] != 2:
        raise ValueError(f"the test energies live in the plane (..., 2), received {tuple(z.shape)}")


def _wave(z: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * z[..., 0] / 4)


def _gauss(x: Tensor, scale: float) -> Tensor:
    """Log of an unnormalised Gaussian."""
    return -0.5 * (x / scale).square()


def u1(z: Tensor) -> Tensor:
    """Ring of radius 2 with two modes at (±2, 0). Proper: the integral of exp(-U) is finite."""
    _check_plane(z)
    ring = 0.5 * ((torch.linalg.vector_norm(z, dim=-1) - 2) / 0.4).square()
    return ring - torch.logaddexp(_gauss(z[..., 0] - 2, 0.6), _gauss(z[..., 0] + 2, 0.6))


def u2(z: Tensor) -> Tensor:
    """A sine wave. Improper: constant along the wave, so exp(-U) has no finite integral; train within :func:`wall`."""
    _check_plane(z)
    return 0.5 * ((z[..., 1] - _wave(z)) / 0.4).square()


def u3(z: Tensor) -> Tensor:
    """The wave split by a bump. Improper as :func:`u2`."""
    _check_plane(z)
    bump = 3 * torch.exp(_gauss(z[..., 0] - 1, 0.6))
    x = z[..., 1] - _wave(z)
    return -torch.logaddexp(_gauss(x, 0.35), _gauss(x + bump, 0.35))


def u4(z: Tensor) -> Tensor:
    """The wave with a step. Improper as :func:`u2`."""
    _check_plane(z)
    step = 3 * torch.sigmoid((z[..., 0] - 1) / 0.3)
    x = z[..., 1] - _wave(z)
    return -torch.logaddexp(_gauss(x, 0.4), _gauss(x + step, 0.35))


ENERGIES: dict[str, Energy] = {"u1": u1, "u2": u2, "u3": u3, "u4": u4}


def wall(energy: Energy, bound: float = 4.0, stiffness: float = 10.0) -> Energy:
    """``energy`` with a quadratic wall outside ``[-bound, bound]^2``, which makes U2 to U4 normalisable."""
    return lambda z: energy(z) + stiffness * F.relu(z.abs() - bound).square().sum(-1)


def log_normaliser(energy: Energy, bound: float = 6.0, points: int = 600) -> Tensor:
    """``ln`` of the integral of exp(-U) over ``[-bound, bound]^2`` by the midpoint rule, in float64."""
    width = 2 * bound / points
    axis = -bound + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    return torch.logsumexp(-energy(grid).flatten(), 0) + 2 * math.log(width)
