"""Radial normalizing flow (Rezende & Mohamed, arXiv 1505.05770, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RadialFlow(nn.Module):
    r""":math:`f(z) = z + \hat\beta h(\alpha, r)(z - z_0)` with :math:`r = \lVert z - z_0 \rVert`,
    :math:`h = 1 / (\alpha + r)`, contracting or expanding around :math:`z_0`.

    .. math:: \ln|\det| = (d - 1) \ln(1 + \hat\beta h) + \ln(1 + \hat\beta h - \hat\beta h^2 r)

    Invertible for :math:`\hat\beta \ge -\alpha` (appendix A.2), ensured by :math:`\alpha = \mathrm{softplus}(a)`,
    :math:`\hat\beta = -\alpha + \mathrm{softplus}(\beta)`. No closed-form inverse is provided.

    Args:
        dim: d of ``z``, ``(N, d)``.
        init_std: :math:`z_0` starts as normal draws of this standard deviation; :math:`\alpha = 1`,
            :math:`\hat\beta = 0`: the flow starts as the identity.

    Shape:
        ``(N, d) -> ((N, d), (N,))``, the second the log-determinant of each sample.

    Raises:
        ValueError: ``dim`` below 1, or an input that is not ``(N, dim)``.
    """

    def __init__(self, dim: int, init_std: float = 1.0) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"radial_flow needs dim >= 1, received {dim}")
        self.dim, self.init_std = dim, init_std
        self.z0 = nn.Parameter(torch.empty(dim))
        self.raw_alpha = nn.Parameter(torch.empty(()))
        self.raw_beta = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.z0, std=self.init_std)
        for parameter in (self.raw_alpha, self.raw_beta):
            nn.init.constant_(parameter, 0.5413248546129181)  # softplus of it is 1

    def constrained(self) -> tuple[Tensor, Tensor]:
        r""":math:`(\alpha, \hat\beta)` with :math:`\alpha > 0` and :math:`\hat\beta > -\alpha`."""
        alpha = F.softplus(self.raw_alpha)
        return alpha, F.softplus(self.raw_beta) - alpha

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.dim() != 2 or z.shape[1] != self.dim:
            raise ValueError(f"radial_flow was made for (N, {self.dim}), received {tuple(z.shape)}")
        alpha, beta = self.constrained()
        away = z - self.z0
        # The smallest normal number under the root keeps the gradient finite for a sample that sits on z0.
        r = (away.square().sum(1) + torch.finfo(z.dtype).tiny).sqrt()
        h = 1 / (alpha + r)
        log_det = (self.dim - 1) * torch.log1p(beta * h) + torch.log1p(beta * h * (1 - h * r))
        return z + (beta * h).unsqueeze(1) * away, log_det

    def extra_repr(self) -> str:
        return f"{self.dim}"
