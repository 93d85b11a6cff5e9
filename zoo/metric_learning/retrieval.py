"""What embeddings are judged by: retrieval (recall, R-precision, MAP@R) and verification of pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.metric_learning._distances import check_batch, recall_at, squared_distances

__all__ = ["Retrieval", "Verification", "recall_at", "retrieval", "verification"]


class Retrieval(NamedTuple):
    """Percentages over the queries that have at least one sample of their class in the gallery."""

    recall_at_1: float
    r_precision: float
    map_at_r: float


@torch.no_grad()
def retrieval(
    embeddings: Tensor, labels: Tensor, gallery: Tensor | None = None, gallery_labels: Tensor | None = None
) -> Retrieval:
    r"""With R samples of the query's class in the gallery, of the R nearest: the share of that class, and

    .. math:: \mathrm{MAP@R} = \frac1R \sum_{i=1}^R P(i)\,[\text{the i-th is of the class}]

    with the precision P(i) among the first i (Musgrave et al., arXiv 2003.08505). Recall@1 sees one neighbour only.

    Args:
        embeddings, labels: queries ``(N, d)`` and ``(N,)``.
        gallery, gallery_labels: ``(M, d)`` and ``(M,)``; default: the queries themselves, each without itself.

    Raises:
        ValueError: inputs of other shapes, or no query with a sample of its class in the gallery.
    """
    check_batch("retrieval", embeddings, labels)
    alone = gallery is None
    pool, names = (embeddings, labels) if gallery is None else (gallery, gallery_labels)
    if names is None:
        raise ValueError("retrieval needs gallery_labels with a gallery, received None")
    check_batch("retrieval", pool, names)
    d = squared_distances(embeddings.double(), pool.double())
    if alone:
        d.fill_diagonal_(torch.inf)
    same = labels[:, None] == names[None, :]
    count = same.sum(1) - int(alone)
    kept = count > 0
    if not bool(kept.any()):
        raise ValueError(f"retrieval: none of the {len(labels)} queries has a sample of its class in the gallery")
    hit = same.gather(1, d.argsort(dim=1))[kept].double()
    count = count[kept, None]
    rank = torch.arange(1, hit.shape[1] + 1, device=hit.device)
    hit = hit * (rank <= count)
    precision = hit.cumsum(1) / rank
    return Retrieval(
        recall_at_1=100 * float(hit[:, 0].mean()),
        r_precision=100 * float((hit.sum(1, keepdim=True) / count).mean()),
        map_at_r=100 * float(((precision * hit).sum(1, keepdim=True) / count).mean()),
    )


class Verification(NamedTuple):
    """Accuracy in percent at the best threshold of the squared distance; VAL in percent at the wanted false accepts."""

    accuracy: float
    threshold: float
    validation_rate: float


@torch.no_grad()
def verification(embeddings: Tensor, labels: Tensor, false_accept_rate: float = 1e-3) -> Verification:
    """Same or different, from one threshold on the squared distance, over all pairs (FaceNet, section 4).

    ``accuracy`` is the mean of the shares right among equal and among different pairs; ``validation_rate`` the share of
    equal pairs accepted at the largest threshold that accepts at most ``false_accept_rate`` of the different ones.

    Raises:
        ValueError: no two samples of one class, or of two classes; a rate outside (0, 1).
    """
    check_batch("verification", embeddings, labels)
    if not 0 < false_accept_rate < 1:
        raise ValueError(f"verification needs 0 < false_accept_rate < 1, received {false_accept_rate}")
    i, j = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    d, same = squared_distances(embeddings.double())[i, j], labels[i] == labels[j]
    if not bool(same.any()) or bool(same.all()):
        raise ValueError(
            "verification needs pairs of one class and pairs of two, received labels that give only one kind"
        )
    order = d.argsort()
    d, same = d[order], same[order].double()
    accepted, wrong = same.cumsum(0) / same.sum(), (1 - same).cumsum(0) / (1 - same).sum()
    last = torch.cat([d[1:] > d[:-1], torch.ones(1, dtype=torch.bool, device=d.device)])  # ties are accepted together
    accepted, wrong, d = accepted[last], wrong[last], d[last]
    balanced = 0.5 * (accepted + 1 - wrong)
    best = int(balanced.argmax())
    within = accepted[wrong <= false_accept_rate]
    return Verification(
        accuracy=100 * float(balanced[best]),
        threshold=float(d[best]),
        validation_rate=100 * float(within[-1]) if len(within) else 0.0,
    )
