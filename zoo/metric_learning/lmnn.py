"""Large margin nearest neighbours (Weinberger, Blitzer & Saul 2005; Weinberger & Saul 2009)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.metric_learning._distances import check_batch, squared_distances


def target_neighbours(x: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the same class: ``(indices, whether there are that many)``, both ``(N, min(k, N))``."""
    other = (labels[:, None] != labels[None, :]) | torch.eye(len(x), dtype=torch.bool, device=x.device)
    found = squared_distances(x).masked_fill(other, torch.inf).topk(min(k, len(x)), largest=False)
    return found.indices, found.values.isfinite()


class LMNN(nn.Module):
    r"""Pull k target neighbours near, push impostors of other classes out of their margin:

    .. math:: L_i = (1 - \mu) \sum_{j \rightsquigarrow i} d_{ij}
              + \mu \sum_{j \rightsquigarrow i} \sum_l (1 - y_{il}) \left[1 + d_{ij} - d_{il}\right]_+

    with squared distances d of the embeddings. For the method of the paper the embeddings are ``linear(x)`` and the
    neighbours are those of x itself, fixed: pass ``inputs=x``.

    Args:
        neighbours: k, target neighbours of each sample (paper: 3).
        mu: weight of the push; 0.5 as in the journal version.
        margin: 1 in the paper, in units of the squared distance.
        reduction: ``"mean"`` over samples, ``"sum"``, or ``"none"`` for the loss of each ``(N,)``.

    Shape:
        embeddings ``(N, d)``, labels ``(N,)``, ``inputs`` ``(N, D)`` or None: neighbours of the embeddings themselves,
        chosen anew in every call and without gradient.

    Raises:
        ValueError: parameters outside their range, inputs of other shapes.
    """

    def __init__(
        self,
        neighbours: int = 3,
        mu: float = 0.5,
        margin: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        if neighbours < 1 or not 0 <= mu <= 1 or not margin > 0:
            raise ValueError(
                f"lmnn needs neighbours >= 1, 0 <= mu <= 1 and margin > 0, received {neighbours}, {mu} and {margin}"
            )
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"lmnn reduces by 'mean', 'sum' or 'none', received {reduction!r}")
        self.neighbours, self.mu, self.margin, self.reduction = neighbours, mu, margin, reduction

    def forward(self, embeddings: Tensor, labels: Tensor, inputs: Tensor | None = None) -> Tensor:
        check_batch("lmnn", embeddings, labels)
        x = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
        space = x.detach() if inputs is None else inputs.flatten(1).to(x.dtype)
        index, there = target_neighbours(space, labels, self.neighbours)
        d = squared_distances(x)
        near = d.gather(1, index)  # (N, k)
        pull = torch.where(there, near, 0.0).sum(1)
        impostor = (labels[:, None] != labels[None, :])[:, None, :] & there[:, :, None]  # (N, k, N)
        push = torch.where(impostor, F.relu(self.margin + near[:, :, None] - d[:, None, :]), 0.0).sum((1, 2))
        value = (1 - self.mu) * pull + self.mu * push
        if self.reduction == "none":
            return value
        return value.mean() if self.reduction == "mean" else value.sum()
