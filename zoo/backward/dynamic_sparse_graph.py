"""Dynamic sparse graph: guess the large activations by random projection, compute only those (Liu et al., 1810.00859)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SELECTIONS = ("projection", "oracle", "random")


def projection_size(vectors: int, epsilon: float, length: int) -> int:
    r"""Dimension :math:`k = \lceil \ln N / \epsilon^2 \rceil`, at most ``length``: the lemma's order with constant 1."""
    return max(1, min(length, math.ceil(math.log(max(vectors, 2)) / epsilon**2)))


def ternary_projection(rows: int, columns: int, sparsity: int = 3) -> Tensor:
    r"""R of :math:`\pm\sqrt s` with probability 1 / 2s each, else 0; entries of unit variance, ``(rows, columns)``."""
    u = torch.rand(rows, columns)
    sign = (u < 1 / (2 * sparsity)).float() - (u > 1 - 1 / (2 * sparsity)).float()
    return sign * sparsity**0.5


class DynamicSparseConv2d(nn.Module):
    r"""CONV, ReLU, BatchNorm in which each position keeps its most promising output channels only.

    .. math:: f(v) = \tfrac{1}{\sqrt k} R v, \qquad V_j = \langle f(X_i), f(W_j) \rangle \approx \langle X_i, W_j \rangle,
              \qquad m_j = [\,V_j \text{ among the largest } (1 - \gamma)\, O\,]

    .. math:: y = m \odot \mathrm{BN}(m \odot \mathrm{ReLU}(W * x))

    The mask is applied twice, because BatchNorm turns zeros into other numbers; autograd applies it to the gradient as
    often. Selection is by value, not by magnitude: ReLU removes negative ones anyway. The order (ReLU before
    BatchNorm) is the paper's. A simulation: the convolution itself stays dense.

    ``(N, C, H, W) -> (N, out_channels, H', W')``, the same graph in training and evaluation.

    Args:
        in_channels: C.
        out_channels: O; by default C.
        kernel_size: odd; the size is kept with stride 1.
        stride: of the convolution.
        sparsity: gamma, share of output channels dropped at each position, in [0, 1).
        epsilon: accuracy of the projection (paper: 0.5); sets its dimension.
        projection_dim: k, in place of the one from ``epsilon``.
        selection: ``"projection"`` (the method), ``"oracle"`` by the true products, ``"random"``; for comparisons.
        share_threshold: all samples use the threshold of sample 0 (the paper, for speed); outputs then depend on
            the batch.

    Attributes:
        out_channels: O.

    Raises:
        ValueError: sizes below 1, ``sparsity`` outside [0, 1), another selection, or an input that is not
            ``(N, in_channels, H, W)``.
    """

    projection: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        stride: int = 1,
        sparsity: float = 0.5,
        epsilon: float = 0.5,
        projection_dim: int | None = None,
        selection: str = "projection",
        share_threshold: bool = False,
    ) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        if min(in_channels, out_channels, kernel_size, stride) < 1 or kernel_size % 2 == 0 or not epsilon > 0:
            raise ValueError(
                "dynamic_sparse_graph needs sizes >= 1, an odd kernel_size and epsilon > 0, received "
                f"{in_channels}, {out_channels}, {kernel_size}, {stride} and {epsilon}"
            )
        if not 0 <= sparsity < 1:
            raise ValueError(f"dynamic_sparse_graph needs 0 <= sparsity < 1, received {sparsity}")
        if selection not in _SELECTIONS:
            raise ValueError(f"dynamic_sparse_graph takes selection {', '.join(_SELECTIONS)}, received {selection!r}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.sparsity, self.selection, self.share_threshold = sparsity, selection, share_threshold
        self.kept = max(1, round((1 - sparsity) * out_channels))
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        length = in_channels * kernel_size**2
        k = projection_dim or projection_size(out_channels, epsilon, length)
        r = ternary_projection(k, length) / k**0.5
        self.register_buffer("projection", r.view(k, in_channels, kernel_size, kernel_size))

    @torch.no_grad()
    def virtual(self, x: Tensor) -> Tensor:
        """The guess ``V`` of the convolution's output, ``(N, O, H', W')``: a thin convolution, then a 1 x 1."""
        short = F.conv2d(x, self.projection.to(x.dtype), None, self.conv.stride, self.conv.padding)
        weights = self.conv.weight.flatten(1) @ self.projection.flatten(1).mT
        return F.conv2d(short, weights.to(x.dtype)[:, :, None, None])

    @torch.no_grad()
    def mask(self, score: Tensor) -> Tensor:
        """1 for the ``kept`` largest of the O scores at each position, else 0."""
        if self.kept >= self.out_channels:
            return torch.ones_like(score)
        if self.share_threshold:
            threshold = score[:1].topk(self.kept, 1).values[:, -1:]
            return (score >= threshold).to(score.dtype)
        index = score.topk(self.kept, 1).indices
        return torch.zeros_like(score).scatter(1, index, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"dynamic_sparse_graph was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        z = self.conv(x)
        if self.selection == "projection":
            score = self.virtual(x)
        else:
            score = z.detach() if self.selection == "oracle" else torch.rand_like(z)
        m = self.mask(score)
        return self.norm(F.relu(z) * m) * m

    def extra_repr(self) -> str:
        k = self.projection.shape[0]
        return f"sparsity={self.sparsity:g}, kept={self.kept} of {self.out_channels}, projection_dim={k}"
