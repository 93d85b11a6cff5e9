"""Label smoothing towards the class frequencies (Pereyra et al., arXiv 1701.06548)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.losses.base import check_reduction, log_probabilities, reduce


class UnigramLabelSmoothing(nn.Module):
    r"""Cross-entropy against :math:`q = (1 - \epsilon)\, e_y + \epsilon\, u` with :math:`u_k = n_k / N`.

    .. math:: L = -(1 - \epsilon) \log p_y - \epsilon \sum_k u_k \log p_k

    Args:
        prior: ``(K,)`` class counts or probabilities; normalised to sum 1. A class of count 0 gets no mass.
        label_smoothing: :math:`\epsilon` in [0, 1] (Szegedy et al.: 0.1).
        reduction: ``mean``, ``sum`` or ``none``.

    With a constant prior this equals ``torch.nn.CrossEntropyLoss(label_smoothing=...)``.

    Raises:
        ValueError: a prior that is not one-dimensional, non-negative and of positive sum; ``label_smoothing`` outside
            [0, 1]; logits of another number of classes.
    """

    prior: Tensor

    def __init__(self, prior: Sequence[float] | Tensor, label_smoothing: float = 0.1, reduction: str = "mean") -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing lies in [0, 1], received {label_smoothing}")
        counts = torch.as_tensor(prior, dtype=torch.float64, device="cpu")
        if counts.ndim != 1 or len(counts) < 2 or bool((counts < 0).any()) or not bool(0 < counts.sum() < torch.inf):
            raise ValueError(f"prior holds a count or probability of each class, received shape {tuple(counts.shape)}")
        self.label_smoothing, self.reduction = label_smoothing, check_reduction(reduction)
        self.register_buffer("prior", counts / counts.sum())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p, target = log_probabilities(logits, target, "UnigramLabelSmoothing")
        if log_p.shape[1] != len(self.prior):
            raise ValueError(f"the prior has {len(self.prior)} classes, the logits {log_p.shape[1]}")
        # A class without mass contributes 0 even where its log-probability is -inf.
        prior = self.prior.to(log_p.dtype)
        smooth = -torch.where(prior > 0, prior * log_p, 0.0).sum(1)
        nll = -log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        return reduce((1 - self.label_smoothing) * nll + self.label_smoothing * smooth, self.reduction)

    def extra_repr(self) -> str:
        return f"{len(self.prior)} classes, label_smoothing={self.label_smoothing}"
