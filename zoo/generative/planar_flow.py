"""Planar normalizing flow (Rezende & Mohamed, arXiv 1505.05770, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def constrained_u(u: Tensor, w: Tensor) -> Tensor:
    r"""The nearest direction along ``w`` that keeps the flow invertible (appendix A.1):

    .. math:: \hat u = u + \left[m(w^\top u) - w^\top u\right] \frac{w}{\lVert w \rVert^2}, \ m(x) = \ln(1 + e^x) - 1

    so that :math:`w^\top \hat u = m(w^\top u) > -1`. The divisor is the *squared* norm. Both ``(d,)``.
    """
    dot = w @ u
    # w = 0 makes the flow a translation, which is invertible for every u.
    square = (w @ w).clamp_min(torch.finfo(w.dtype).tiny)
    return u + (F.softplus(dot) - 1 - dot) * w / square


class PlanarFlow(nn.Module):
    r""":math:`f(z) = z + \hat u \tanh(w^\top z + b)`, with
    :math:`\ln|\det \partial f / \partial z| = \ln|1 + \hat u^\top \psi(z)|`, :math:`\psi(z) = \tanh'(w^\top z + b)\,w`.

    The map has no closed-form inverse: densities are known along samples only.

    Args:
        dim: d of ``z``, ``(N, d)``.
        init_std: ``u`` and ``w`` start as normal draws of this standard deviation, ``b`` at 0.

    Shape:
        ``(N, d) -> ((N, d), (N,))``, the second the log-determinant of each sample.

    Raises:
        ValueError: ``dim`` below 1, or an input that is not ``(N, dim)``.
    """

    def __init__(self, dim: int, init_std: float = 0.1) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"planar_flow needs dim >= 1, received {dim}")
        self.dim, self.init_std = dim, init_std
        self.u = nn.Parameter(torch.empty(dim))
        self.w = nn.Parameter(torch.empty(dim))
        self.b = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.u, std=self.init_std)
        nn.init.normal_(self.w, std=self.init_std)
        nn.init.zeros_(self.b)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.dim() != 2 or z.shape[1] != self.dim:
            raise ValueError(f"planar_flow was made for (N, {self.dim}), received {tuple(z.shape)}")
        u = constrained_u(self.u, self.w)
        h = torch.tanh(z @ self.w + self.b)  # (N,)
        # 1 + tanh' w^T u, with 1 + w^T u taken as the softplus that it is: the product would cancel to 0 or below near
        # the constraint. All terms are positive. With w = 0 the flow is a translation.
        one_plus = torch.where(self.w.any(), F.softplus(self.w @ self.u), 1.0)
        log_det = torch.log(h.square() + (1 - h.square()) * one_plus)
        return z + h.unsqueeze(1) * u, log_det

    def extra_repr(self) -> str:
        return f"{self.dim}"
