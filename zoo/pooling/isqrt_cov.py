"""iSQRT-COV: global covariance pooling with an iterative matrix square root (Li et al., arXiv 1712.01034)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.numerics import wide, without_autocast
from zoo.pooling._vectorise import covariance, reduce_channels, triangle_size, upper_triangle


def newton_schulz_sqrt(sigma: Tensor, num_iters: int = 5, eps: float = 1e-10) -> Tensor:
    r"""Approximate square root of symmetric positive semi-definite matrices by coupled Newton-Schulz steps.

    .. math:: A = \Sigma / \operatorname{tr}\Sigma,\quad Y_0 = A,\quad Z_0 = I, \qquad
              T_k = \tfrac12 (3 I - Z_{k-1} Y_{k-1}),\quad Y_k = Y_{k-1} T_k,\quad Z_k = T_k Z_{k-1}, \qquad
              C = \sqrt{\operatorname{tr}\Sigma}\; Y_N

    Only matrix products: one ``baddbmm`` forms each ``T_k``, and the first and last step leave out the products whose
    result is known or unused, so that N steps cost 3N - 3 products. Gradients are autograd's, of any order.

    Args:
        sigma: ``(N, C, C)``, float32 or wider.
        num_iters: N; 5 steps are an approximation (about 2 % off on random covariances), not the exact root.
        eps: added to the trace, so that a constant feature map gives 0 and finite gradients instead of NaN.

    Returns:
        ``(N, C, C)``.
    """
    c = sigma.shape[-1]
    trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + eps
    # u = -Y/2, so that no product has a factor that its gradient would be multiplied by; exact, as 2 is a power of two
    u = sigma * (-0.5 / trace)
    three_halves = 1.5 * torch.eye(c, dtype=sigma.dtype, device=sigma.device)
    t = three_halves + u  # Z_0 = I: no product needed
    if num_iters > 1:
        three_halves = three_halves.expand_as(sigma)
        u, z = torch.bmm(u, t), t
        for _ in range(num_iters - 2):
            t = torch.baddbmm(three_halves, z, u)
            u, z = torch.bmm(u, t), torch.bmm(t, z)
        t = torch.baddbmm(three_halves, z, u)
    return torch.bmm(u, t) * (-2 * trace.sqrt())


class ISqrtCov(nn.Module):
    r"""Covariance of the channels, its approximate square root, and the upper triangle as features.

    ``(N, C, H, W) -> (N, d (d + 1) / 2)`` with ``d`` channels after the optional reduction; the spatial size is free.
    Statistics and iteration run in float32 outside autocast.

    Args:
        in_channels: C.
        reduction: d (paper: 256). A 1 x 1 convolution without bias, BatchNorm and ReLU brings ``in_channels`` down to
            it; left out when ``in_channels`` is not larger, or with ``None``.
        num_iters: Newton-Schulz steps N (paper: 5).
        isometric: scale off-diagonal entries by sqrt(2); the authors do not. Irrelevant before a linear layer,
            right where distances matter.
        eps: added to the trace.

    Attributes:
        out_features: ``d (d + 1) / 2``; 32,896 for d = 256.

    Raises:
        ValueError: sizes below 1, ``num_iters`` below 1, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int | None = 256,
        num_iters: int = 5,
        isometric: bool = False,
        eps: float = 1e-10,
    ) -> None:
        super().__init__()
        if in_channels < 1 or (reduction is not None and reduction < 1) or num_iters < 1:
            raise ValueError(
                "isqrt_cov needs in_channels, reduction and num_iters >= 1, received "
                f"{in_channels}, {reduction} and {num_iters}"
            )
        self.in_channels, self.num_iters, self.isometric, self.eps = in_channels, num_iters, isometric, eps
        self.reduce, channels = reduce_channels(in_channels, reduction)
        self.out_features = triangle_size(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"isqrt_cov was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}")
        features = self.reduce(x)
        with without_autocast(x.device.type):
            sigma = covariance(wide(features).flatten(2))
            root = newton_schulz_sqrt(sigma, self.num_iters, self.eps)
            return upper_triangle(root, self.isometric).to(features.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, out_features={self.out_features}, num_iters={self.num_iters}"
