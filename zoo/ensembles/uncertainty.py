"""Dropout at test time as approximate Bayesian inference, and what to read off it (Gal, Ghahramani, arXiv 1506.02142)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd


class Uncertainty(NamedTuple):
    """``(N, K)`` mean probabilities; ``(N,)`` predictive entropy, mutual information (BALD), expected entropy, in nats."""

    probabilities: Tensor
    entropy: Tensor
    mutual_information: Tensor
    expected_entropy: Tensor


def entropy(p: Tensor) -> Tensor:
    """:math:`-\\sum_k p_k \\log p_k` over the last dimension, 0 log 0 = 0."""
    return -torch.special.xlogy(p, p).sum(-1)


def decompose(probabilities: Tensor) -> Uncertainty:
    r"""Total = epistemic + aleatoric, from the ``(T, N, K)`` probabilities of T passes or members.

    .. math:: H\left[\tfrac1T \textstyle\sum_t p_t\right] = I + \tfrac1T \textstyle\sum_t H[p_t]
    """
    mean = probabilities.mean(0)
    total, expected = entropy(mean), entropy(probabilities).mean(0)
    return Uncertainty(mean, total, total - expected, expected)


def mc_dropout(model: nn.Module, input: Tensor, passes: int = 30) -> Uncertainty:
    """T stochastic passes with only the dropout modules in training mode.

    Args:
        model: ``(N, *) -> (N, K)`` logits. ``nn.Dropout*`` and timm's ``DropPath`` are switched on; everything else
            (BatchNorm above all) stays in evaluation mode. All modes are put back.
        input: ``(N, *)``.
        passes: T.

    Raises:
        ValueError: the model has no dropout of positive rate, so that all passes would agree; passes below 1.
    """
    noisy = [m for m in model.modules() if isinstance(m, (_DropoutNd, DropPath)) and _rate(m) > 0]
    if not noisy or passes < 1:
        raise ValueError(
            f"mc_dropout needs a model with dropout of positive rate and passes >= 1; found {len(noisy)} such modules"
        )
    modes: list[tuple[nn.Module, bool]] = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        for m in noisy:
            m.train()
        with torch.no_grad():
            return decompose(torch.stack([model(input).float().softmax(1) for _ in range(passes)]))
    finally:
        for module, mode in modes:
            module.training = mode


def _rate(module: nn.Module) -> float:
    return float(getattr(module, "p", None) or getattr(module, "drop_prob", None) or 0.0)
