"""Confident learning: count which labels the model is confident to be something else (Northcutt et al., 1911.00068)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class LabelIssues(NamedTuple):
    """What :func:`confident_learning` returns."""

    suspects: Tensor  # (M,) indices, lowest self-confidence first
    confident_joint: Tensor  # (K, K) counts: given, true
    probabilities: Tensor  # (N, K) out of sample


def confident_joint(target: Tensor, probabilities: Tensor) -> Tensor:
    r"""Counts :math:`C_{ij} = |\{n : \tilde y_n = i, \; \arg\max_{l : p_{nl} \ge t_l} p_{nl} = j\}|`, ``(K, K)`` int64.

    with the thresholds :math:`t_j = \mathrm{mean}\{p_{nj} : \tilde y_n = j\}`. A sample without a class above its
    threshold is
    not counted.
    """
    confident, guess = _confident(target, probabilities)
    k = probabilities.shape[1]
    return torch.bincount(target[confident] * k + guess[confident], minlength=k * k).view(k, k)


def _confident(target: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    n, k = probabilities.shape
    sums = torch.zeros(k, dtype=probabilities.dtype).scatter_add_(0, target, probabilities[torch.arange(n), target])
    threshold = sums / torch.bincount(target, minlength=k).clamp_min(1)
    above = probabilities >= threshold - 1e-6
    return above.any(1), torch.where(above, probabilities, -1.0).argmax(1)


def find_issues(target: Tensor, probabilities: Tensor) -> Tensor:
    """Indices of off-diagonal samples of the confident joint, ranked by the probability of their own label."""
    confident, guess = _confident(target, probabilities)
    wrong = (confident & (guess != target)).nonzero().squeeze(1)
    own = probabilities[wrong, target[wrong]]
    return wrong[own.argsort(stable=True)]


def confident_learning(
    model: nn.Module,
    input: Tensor,
    target: Tensor,
    fit: Callable[[nn.Module, Tensor, Tensor], object],
    folds: int = 5,
    seed: int = 0,
) -> LabelIssues:
    """Find wrong labels from cross-validated predictions of copies of ``model``.

    Args:
        model: untrained; ``(N, *) -> (N, K)`` logits. It is not changed.
        input: ``(N, *)``, all samples.
        target: ``(N,)`` given classes.
        fit: ``fit(model, input, target)`` trains in place.
        folds: of the cross-validation; every sample is judged by a model that has not seen it.
        seed: of the split.

    Returns:
        :class:`LabelIssues`.

    Raises:
        ValueError: fewer than two folds, or more folds than samples.
    """
    if not 2 <= folds <= len(input):
        raise ValueError(f"folds lies in [2, {len(input)}], received {folds}")
    order = torch.randperm(len(input), generator=torch.Generator().manual_seed(seed))
    rows: list[Tensor] = []
    for held in order.tensor_split(folds):
        keep = torch.ones(len(input), dtype=torch.bool)
        keep[held] = False
        member = copy.deepcopy(model)
        fit(member, input[keep], target[keep])
        member.eval()
        with torch.no_grad():
            rows.append(member(input[held]).softmax(1))
    probabilities = torch.cat(rows)[order.argsort()]
    return LabelIssues(find_issues(target, probabilities), confident_joint(target, probabilities), probabilities)
