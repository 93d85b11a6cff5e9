"""FaceNet's triplet loss on squared distances, with four ways of mining (Schroff et al., arXiv 1503.03832)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.metric_learning._distances import check_batch, squared_distances

MINING = ("semi_hard", "hard", "random", "all")


def negative_for_each_pair(d: Tensor, labels: Tensor, mining: str, margin: float) -> tuple[Tensor, Tensor]:
    r"""One negative n for each pair (a, p): ``(distance of a and n, whether there is one)``, both ``(N, N)``.

    ``semi_hard`` takes the nearest negative that is farther than the positive, if it lies inside the margin:
    :math:`d_{ap} < d_{an} < d_{ap} + \alpha`; pairs without one are left out. ``hard`` takes the nearest of all.
    """
    negative = labels[:, None] != labels[None, :]
    some = negative.any(1, keepdim=True)
    if mining == "random" and len(d) > 0:  # there is nothing to draw in an empty batch
        # A row without negatives gets equal weights, so that the draw is defined; its pairs are not used.
        index = torch.multinomial((negative | ~some).to(d.dtype), len(d), replacement=True)
        return d.gather(1, index), some.expand_as(d)
    ordered = d.masked_fill(~negative, torch.inf).sort(1).values
    if mining == "hard":
        return ordered[:, :1].expand_as(d), some.expand_as(d)
    index = torch.searchsorted(ordered.detach(), d.detach().contiguous(), right=True).clamp_max(len(d) - 1)
    chosen = ordered.gather(1, index)
    return chosen, (chosen > d) & (chosen < d + margin)


class FaceNetLoss(nn.Module):
    r"""Triplet loss on the unit sphere, equation 3:

    .. math:: L = \sum_i \left[\lVert f(x_i^a) - f(x_i^p)\rVert^2 - \lVert f(x_i^a) - f(x_i^n)\rVert^2 + \alpha\right]_+

    over all anchor-positive pairs of the batch with one mined negative each. ``"mean"`` averages over the triplets in
    use, those at zero loss included; a batch without triplets has loss 0.

    Args:
        margin: :math:`\alpha` (paper: 0.2), of squared distances, which lie in [0, 4].
        mining: ``"semi_hard"`` (paper), ``"hard"``, ``"random"``, or ``"all"`` triplets (memory of N cubed).
        normalize: put embeddings on the unit sphere first, without which the margin means nothing.
        reduction: ``"mean"`` or ``"sum"`` over triplets; ``"none"`` gives each anchor's share ``(N,)``, whose mean
            over the N samples is ``"mean"``.

    Shape:
        embeddings ``(N, d)``, labels ``(N,)``.

    Raises:
        ValueError: a margin that is not positive, an unknown mining or reduction, inputs of other shapes.
    """

    def __init__(
        self,
        margin: float = 0.2,
        mining: Literal["semi_hard", "hard", "random", "all"] = "semi_hard",
        normalize: bool = True,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"facenet needs margin > 0, received {margin}")
        if mining not in MINING:
            raise ValueError(f"facenet mines {', '.join(MINING)}, received {mining!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"facenet reduces by 'mean', 'sum' or 'none', received {reduction!r}")
        self.margin, self.mining, self.normalize, self.reduction = margin, mining, normalize, reduction

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        check_batch("facenet", embeddings, labels)
        x = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
        x = F.normalize(x, dim=1) if self.normalize else x
        d = squared_distances(x)
        pair = (labels[:, None] == labels[None, :]) & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        if self.mining == "all":
            used = pair[:, :, None] & (labels[:, None] != labels[None, :])[:, None, :]  # (a, p, n)
            values = F.relu(d[:, :, None] - d[:, None, :] + self.margin)
        else:
            far, there = negative_for_each_pair(d, labels, self.mining, self.margin)
            used = pair & there
            values = F.relu(d - torch.where(used, far, 0.0) + self.margin)  # no infinity may enter the graph
        share = torch.where(used, values, 0.0).flatten(1).sum(1)
        count = used.sum().clamp_min(1)
        if self.reduction == "sum":
            return share.sum()
        return share.sum() / count if self.reduction == "mean" else share * (len(x) / count)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, mining={self.mining!r}, normalize={self.normalize}"
