"""Decoupling representation and classifier under a long tail: samplers and classifiers (Kang et al., arXiv 1910.09217)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Sampler


def class_probabilities(counts: Tensor, q: float) -> Tensor:
    r""":math:`p_j = n_j^q / \sum_i n_i^q`; absent classes get 0 at every q. ``(K,)`` float64."""
    n = counts.double()
    p = torch.where(n > 0, n**q, torch.zeros_like(n))
    return p / p.sum()


class DecouplingSampler(Sampler[int]):
    r"""The paper's four samplings: a class by :math:`p_j`, then one of its samples uniformly, with replacement.

    Args:
        labels: ``(N,)`` classes.
        mode: ``instance`` (q = 1), ``class_balanced`` (q = 0), ``square_root`` (q = 1/2), or ``progressive``:
            :math:`p_j(t) = (1 - t/T)\, p_j^{IB} + (t/T)\, p_j^{CB}` with the epoch t of :meth:`set_epoch`.
        epochs: T of the progressive mode.
        num_samples: length of an epoch; N by default.
        seed: of the draw; with the epoch it decides all indices.

    Raises:
        ValueError: unknown mode, no labels, ``epochs`` below 1.
    """

    MODES = ("instance", "class_balanced", "square_root", "progressive")

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        mode: str = "class_balanced",
        epochs: int = 90,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        if mode not in self.MODES:
            raise ValueError(f"mode is one of {', '.join(self.MODES)}, received {mode!r}")
        self.labels = torch.as_tensor(labels, dtype=torch.int64).cpu()
        if self.labels.ndim != 1 or not len(self.labels) or epochs < 1:
            raise ValueError(
                f"labels are (N,) with N > 0 and epochs >= 1, received {tuple(self.labels.shape)}, {epochs}"
            )
        self.counts = torch.bincount(self.labels)
        self.mode, self.epochs, self.seed, self.epoch = mode, epochs, seed, 0
        self.num_samples = len(self.labels) if num_samples is None else num_samples

    def set_epoch(self, epoch: int) -> None:
        """Call before every epoch: another draw, and the next mixture in the progressive mode."""
        self.epoch = epoch

    def probabilities(self) -> Tensor:
        """``(K,)``: the class probabilities of this epoch."""
        if self.mode == "progressive":
            t = min(self.epoch / self.epochs, 1.0)
            return (1 - t) * class_probabilities(self.counts, 1.0) + t * class_probabilities(self.counts, 0.0)
        return class_probabilities(self.counts, {"instance": 1.0, "class_balanced": 0.0, "square_root": 0.5}[self.mode])

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        weights = (self.probabilities() / self.counts.clamp_min(1))[self.labels]
        yield from torch.multinomial(weights, self.num_samples, replacement=True, generator=generator).tolist()


def tau_normalized(classifier: nn.Linear, tau: float = 1.0, keep_bias: bool = False) -> nn.Linear:
    r"""A classifier with :math:`\tilde w_i = w_i / \|w_i\|^\tau`, new and detached.

    Args:
        classifier: ``nn.Linear`` of K outputs.
        tau: 0 leaves the weights, 1 makes all norms 1; choose it on validation data.
        keep_bias: the authors' evaluation drops the bias, and so does this by default.

    Raises:
        TypeError: not an ``nn.Linear``.
    """
    if not isinstance(classifier, nn.Linear):
        raise TypeError(f"tau normalisation takes an nn.Linear, received {type(classifier).__name__}")
    weight = classifier.weight.detach()
    bias = keep_bias and classifier.bias is not None
    new = nn.Linear(
        classifier.in_features, classifier.out_features, bias=bias, device=weight.device, dtype=weight.dtype
    )
    with torch.no_grad():
        new.weight.copy_(weight / weight.norm(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny) ** tau)
        if bias:
            new.bias.copy_(classifier.bias)
    return new


class LearnableScaling(nn.Module):
    r"""LWS: :math:`z_i = f_i\, (w_i^\top x + b_i)` with everything but ``f`` frozen.

    As in the authors' code the scale multiplies the logit, so it scales the bias too.

    Args:
        classifier: the trained ``nn.Linear``; it is frozen in place.
    """

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.classifier = classifier.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(classifier.out_features).to(classifier.weight))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(features) * self.scale


class NearestClassMean(nn.Module):
    r"""NCM: the class whose mean feature is nearest.

    Args:
        features: ``(N, D)`` training features.
        labels: ``(N,)``.
        num_classes: K; a class without samples is never predicted.
        metric: ``euclidean``, ``cosine``, or ``cl2n``: subtract the mean training feature, scale samples to L2 norm 1, average
            them per class (means are not scaled again), Euclidean distance, as in the authors' code.

    Maps ``(M, D)`` to ``(M, K)`` scores, higher is nearer.

    Raises:
        ValueError: unknown metric, shapes that do not fit.
    """

    METRICS = ("euclidean", "cosine", "cl2n")
    means: Tensor
    centre: Tensor

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int, metric: str = "cosine") -> None:
        super().__init__()
        if metric not in self.METRICS:
            raise ValueError(f"metric is one of {', '.join(self.METRICS)}, received {metric!r}")
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(
                f"features (N, D) and labels (N,), received {tuple(features.shape)}, {tuple(labels.shape)}"
            )
        self.metric = metric
        self.register_buffer(
            "centre", features.detach().mean(0) if metric == "cl2n" else features.new_zeros(features.shape[1])
        )
        x = self._prepare(features.detach())
        counts = torch.bincount(labels, minlength=num_classes).to(x.dtype)
        sums = x.new_zeros(num_classes, x.shape[1]).index_add_(0, labels, x)
        self.register_buffer("means", sums / counts.unsqueeze(1))  # an absent class: 0 / 0, masked below

    def _prepare(self, features: Tensor) -> Tensor:
        x = features - self.centre
        return F.normalize(x, dim=1) if self.metric == "cl2n" else x

    def forward(self, features: Tensor) -> Tensor:
        x = self._prepare(features)
        if self.metric == "cosine":
            score = F.normalize(x, dim=1) @ F.normalize(self.means, dim=1).T
        else:
            score = -torch.cdist(x, self.means)
        return score.masked_fill(score.isnan(), -torch.inf)


def reset_classifier_for_crt(model: nn.Module) -> list[nn.Parameter]:
    """cRT's second stage: draw the classifier anew and freeze everything else; returns what is to be trained.

    Keep ``model.eval()`` during the stage (or freeze BatchNorm otherwise): in training mode its running statistics drift away
    from the frozen features, which the authors' code lets happen.

    Args:
        model: with timm's ``get_classifier``.

    Raises:
        TypeError: without ``get_classifier`` or a classifier that cannot be drawn anew.
    """
    getter: Any = getattr(model, "get_classifier", None)
    classifier = getter() if callable(getter) else None
    if not isinstance(classifier, nn.Module) or not callable(getattr(classifier, "reset_parameters", None)):
        raise TypeError("crt needs a network with timm's get_classifier() and a classifier with reset_parameters()")
    model.requires_grad_(False)
    classifier.requires_grad_(True)
    classifier.reset_parameters()  # type: ignore[operator]
    return list(classifier.parameters())
