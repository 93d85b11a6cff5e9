"""Kullback-Leibler divergence (1951): closed forms for Gaussians and categories, and three estimators from samples."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def gaussian_kl(mean0: Tensor, cov0: Tensor, mean1: Tensor, cov1: Tensor) -> Tensor:
    r""":math:`KL(N_0 \| N_1) = \frac12 [\mathrm{tr}(\Sigma_1^{-1}\Sigma_0) + \delta^\top\Sigma_1^{-1}\delta - d +
    \ln|\Sigma_1| - \ln|\Sigma_0|]`, :math:`\delta = \mu_1 - \mu_0`.

    ``(..., d), (..., d, d), (..., d), (..., d, d) -> (...)``, by Cholesky factors, without inverting a matrix.
    """
    factor0, factor1 = torch.linalg.cholesky(cov0), torch.linalg.cholesky(cov1)
    delta = (mean1 - mean0).unsqueeze(-1)
    trace = torch.linalg.solve_triangular(factor1, factor0, upper=False).square().sum((-2, -1))
    distance = torch.linalg.solve_triangular(factor1, delta, upper=False).square().sum((-2, -1))
    log_det = 2 * (factor1.diagonal(dim1=-2, dim2=-1).log() - factor0.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    return 0.5 * (trace + distance - mean0.shape[-1] + log_det)


def categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    """Sum of p ln(p / q) over the last axis; 0 where p is 0, infinite where only q is. ``(..., K) -> (...)``."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def estimate_kl(log_p: Tensor, log_q: Tensor, estimator: Literal["k1", "k2", "k3"] = "k3") -> Tensor:
    r"""KL(p || q) from the log-densities of samples *of p*, per sample. With :math:`r = q / p`:

    ``k1`` is :math:`-\ln r` (unbiased, often negative), ``k2`` is :math:`\frac12 (\ln r)^2` (biased, low variance),
    ``k3`` is :math:`r - 1 - \ln r` (unbiased, never negative).
    """
    log_ratio = log_q - log_p
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio.square()
    if estimator == "k3":
        return torch.expm1(log_ratio) - log_ratio
    raise ValueError(f"estimate_kl knows k1, k2 and k3, received {estimator!r}")


class KLDivergence(nn.Module):
    """KL(target || softmax(logits)) of probability targets; with ``reverse`` KL(softmax(logits) || target).

    ``F.kl_div`` takes the arguments the other way round, the first as a logarithm, and its default reduction divides
    by the number of classes too.

    Args:
        reverse: swap the roles. Infinite where a target probability is 0.
        reduction: ``"mean"`` over the batch, ``"sum"``, or ``"none"`` for one value a sample.

    Shape:
        logits and target ``(N, K)``; targets ``(N,)`` of class indices are taken as one-hot.
    """

    def __init__(self, reverse: bool = False, reduction: Literal["mean", "sum", "none"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"kl_divergence reduces by 'mean', 'sum' or 'none', received {reduction!r}")
        self.reverse, self.reduction = reverse, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_q = torch.log_softmax(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, -1)
        if not target.is_floating_point():
            target = torch.nn.functional.one_hot(target, logits.shape[-1]).to(log_q.dtype)
        if target.shape != logits.shape:
            raise ValueError(
                f"kl_divergence needs targets like logits {tuple(logits.shape)}, received {tuple(target.shape)}"
            )
        if self.reverse:
            value = (log_q.exp() * (log_q - target.log())).sum(-1)
        else:
            value = (torch.xlogy(target, target) - target * log_q).sum(-1)
        if self.reduction == "none":
            return value
        return value.mean() if self.reduction == "mean" else value.sum()
