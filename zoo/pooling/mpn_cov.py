"""MPN-COV: covariance pooling with a matrix power by eigendecomposition (Li et al., arXiv 1703.08050)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.numerics import wide, without_autocast
from zoo.pooling._vectorise import covariance, reduce_channels, triangle_size, upper_triangle


class _MatrixPower(torch.autograd.Function):
    """``U diag(l ** alpha) U^T`` whose gradient never divides by the gap of two eigenvalues."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, sigma: Tensor, alpha: float, tol: float) -> Tensor:
        values, u = torch.linalg.eigh(sigma)
        # Round-off leaves tiny values of either sign where the rank is short; their powers would be noise.
        values = torch.where(values > tol * values[..., -1:].clamp_min(0), values, 0)
        powers = torch.where(values > 0, values.clamp_min(torch.finfo(values.dtype).tiny) ** alpha, 0)
        ctx.save_for_backward(values, powers, u)
        ctx.alpha = alpha  # type: ignore[attr-defined]
        return (u * powers.unsqueeze(-2)) @ u.mT

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # create_graph: the terms through U and the eigenvalues would be missing
            raise RuntimeError("mpn_cov is differentiable once; isqrt_cov has derivatives of every order")
        values, powers, u = ctx.saved_tensors  # type: ignore[attr-defined]
        k = _divided_differences(values, powers, ctx.alpha)  # type: ignore[attr-defined]
        symmetric = (grad + grad.mT) / 2
        return u @ (k * (u.mT @ symmetric @ u)) @ u.mT, None, None


def _divided_differences(values: Tensor, powers: Tensor, alpha: float) -> Tensor:
    r""":math:`(\lambda_i^\alpha - \lambda_j^\alpha) / (\lambda_i - \lambda_j)`; their limit where the two meet."""
    li, lj = values.unsqueeze(-1), values.unsqueeze(-2)
    pi, pj = powers.unsqueeze(-1), powers.unsqueeze(-2)
    alive = (li > 0) | (lj > 0)
    if alpha == 0.5:  # (a - b) / (a^2 - b^2): the gap cancels
        return torch.where(alive, 1 / torch.where(alive, pi + pj, 1), 0)
    middle = (li + lj) / 2
    gap = li - lj
    # Below this gap the difference has lost its digits and the derivative at the midpoint is off by O(gap^2) only.
    far = gap.abs() > torch.finfo(values.dtype).eps ** (1 / 3) * middle
    slope = alpha * torch.where(alive, middle, 1) ** (alpha - 1)
    return torch.where(alive, torch.where(far, (pi - pj) / torch.where(far, gap, 1), slope), 0)


def matrix_power(sigma: Tensor, alpha: float = 0.5, tol: float | None = None) -> Tensor:
    r"""Power of symmetric positive semi-definite matrices, :math:`U \operatorname{diag}(\lambda^\alpha) U^\top`.

    The gradient is :math:`U (K \circ U^\top G U) U^\top` with divided differences ``K``. It is the exact one, and
    stays finite for equal eigenvalues, where the usual form through those of ``U`` divides by their gap. Directions
    of the null space count as eigenvalues that are and stay 0. Differentiable once.

    Args:
        sigma: ``(*, C, C)``, float32 or wider.
        alpha: positive exponent.
        tol: eigenvalues below ``tol`` times the largest are 0; by default ``C`` times the machine epsilon.
    """
    if tol is None:
        tol = sigma.shape[-1] * torch.finfo(sigma.dtype).eps
    return _MatrixPower.apply(sigma, float(alpha), float(tol))


class MPNCov(nn.Module):
    r"""Covariance of the channels, raised to the power :math:`\alpha`, upper triangle as features.

    .. math:: \Sigma = \tfrac1M (X - \bar X)(X - \bar X)^\top = U \Lambda U^\top, \qquad P = U \Lambda^\alpha U^\top

    ``(N, C, H, W) -> (N, d (d + 1) / 2)``; float32 outside autocast. An eigendecomposition is slow on GPUs:
    ``isqrt_cov`` is what the same authors take for training there.

    Args:
        in_channels: C.
        reduction: d (paper: 256), by 1 x 1 convolution, BatchNorm, ReLU; left out when C is not larger, or with None.
        alpha: exponent (paper: 1/2). 1 is plain covariance pooling.
        isometric: scale off-diagonal entries by sqrt(2).
        tol: relative size below which an eigenvalue counts as 0; by default d times the machine epsilon.

    Attributes:
        out_features: ``d (d + 1) / 2``.

    Raises:
        ValueError: sizes below 1, ``alpha`` that is not positive, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int | None = 256,
        alpha: float = 0.5,
        isometric: bool = False,
        tol: float | None = None,
    ) -> None:
        super().__init__()
        if in_channels < 1 or (reduction is not None and reduction < 1) or not alpha > 0:
            raise ValueError(
                "mpn_cov needs in_channels and reduction >= 1 and alpha > 0, received "
                f"{in_channels}, {reduction} and {alpha}"
            )
        self.in_channels, self.alpha, self.isometric, self.tol = in_channels, alpha, isometric, tol
        self.reduce, channels = reduce_channels(in_channels, reduction)
        self.out_features = triangle_size(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"mpn_cov was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}")
        features = self.reduce(x)
        with without_autocast(x.device.type):
            sigma = covariance(wide(features).flatten(2))
            power = sigma if self.alpha == 1 else matrix_power(sigma, self.alpha, self.tol)
            return upper_triangle(power, self.isometric).to(features.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, out_features={self.out_features}, alpha={self.alpha:g}"
