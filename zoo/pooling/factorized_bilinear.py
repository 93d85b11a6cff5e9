"""Factorized bilinear layer with DropFactor: linear plus a low-rank quadratic form (Li et al., arXiv 1611.05709)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SCALINGS = ("paper", "inverted", "official")


class FactorizedBilinear(nn.Module):
    r"""A linear layer with one rank-k quadratic form for each output.

    .. math:: y_j = b_j + w_j^\top x + \sum_{r=1}^{k} m_r\, (f_{jr}^\top x)^2

    ``(*, in_features) -> (*, out_features)``. The quadratic term is one matrix product of width ``k out_features``,
    a square and a sum. DropFactor draws ``m_r`` from Bernoulli(p) once for a mini-batch: whole paths disappear for
    all samples and outputs together, as in the authors' operator.

    Args:
        in_features: c.
        out_features: n.
        bias: of the linear part.
        num_factors: k (paper: 20 on CIFAR, 50 on ImageNet).
        keep: probability p that a path is kept in training (paper: 0.5); 1 switches DropFactor off. The operator's own
            option is the rate of dropping.
        scaling: ``"paper"``: m in training, p in evaluation; ``"inverted"``: m / p in training, 1 in evaluation;
            ``"official"``: m / p in training and p in evaluation as the operator computes, whose two modes differ
            by the factor p.
        diagonal: keep the terms :math:`x_i^2` (paper). The operator subtracts them: ``False``.

    Raises:
        ValueError: sizes below 1, ``keep`` outside (0, 1], another scaling, or an input with other features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        num_factors: int = 20,
        keep: float = 0.5,
        scaling: str = "paper",
        diagonal: bool = True,
    ) -> None:
        super().__init__()
        if min(in_features, out_features, num_factors) < 1 or not 0 < keep <= 1:
            raise ValueError(
                "factorized_bilinear needs in_features, out_features, num_factors >= 1 and 0 < keep <= 1, received "
                f"{in_features}, {out_features}, {num_factors} and {keep}"
            )
        if scaling not in _SCALINGS:
            raise ValueError(f"factorized_bilinear takes scaling {', '.join(_SCALINGS)}, received {scaling!r}")
        self.in_features, self.out_features, self.num_factors = in_features, out_features, num_factors
        self.keep, self.scaling, self.diagonal = keep, scaling, diagonal
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.factors = nn.Parameter(torch.empty(out_features, num_factors, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights and factors, zero bias."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.factors.data.view(-1, self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def path_weights(self, like: Tensor) -> Tensor:
        """The factor that multiplies each path, ``(k,)``: drawn anew in training, fixed in evaluation."""
        if self.training and self.keep < 1:
            mask = (torch.rand(self.num_factors, device=like.device) < self.keep).to(like.dtype)
            return mask if self.scaling == "paper" else mask / self.keep
        value = 1.0 if self.training or self.scaling == "inverted" else self.keep
        return torch.full((self.num_factors,), value, dtype=like.dtype, device=like.device)

    def quadratic(self, x: Tensor) -> Tensor:
        """The quadratic term alone, ``(*, out_features)``, in float32 at least."""
        paths = F.linear(x, self.factors.flatten(0, 1)).unflatten(-1, (self.out_features, self.num_factors))
        paths = paths.float() if paths.dtype in (torch.float16, torch.bfloat16) else paths
        m = self.path_weights(paths)
        total = (paths.square() * m).sum(-1)
        if not self.diagonal:
            own = (self.factors.to(paths.dtype).square() * m[:, None]).sum(1)
            total = total - F.linear(x.to(paths.dtype).square(), own)
        return total

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"factorized_bilinear was made for {self.in_features} features, received {tuple(x.shape)}")
        linear = F.linear(x, self.weight, self.bias)
        return linear + self.quadratic(x).to(linear.dtype)

    def pooled(self, x: Tensor) -> Tensor:
        """The paper's classifier, ``(N, C, H, W) -> (N, out_features)``: the layer at each position, then the mean.

        The mean of squares, not the square of a mean: applying the layer after global pooling is another model.
        """
        return self(x.flatten(2).mT).mean(1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, num_factors={self.num_factors}, keep={self.keep:g}"
