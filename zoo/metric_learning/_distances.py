"""Distances, retrieval metrics and the embedding head that metric learning shares."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def squared_distances(x: Tensor, y: Tensor | None = None) -> Tensor:
    """``(N, d), (M, d) -> (N, M)``; never negative. The gradient is finite for equal rows, unlike a root's."""
    y = x if y is None else y
    return (x.square().sum(1, keepdim=True) - 2 * x @ y.T + y.square().sum(1)).clamp_min(0)


def check_batch(name: str, embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.dim() != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{name} needs embeddings (N, d) and labels (N,), "
            f"received {tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )


@torch.no_grad()
def recall_at(embeddings: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor, k: int = 1) -> float:
    """Share of queries, in percent, with one of their own class among the k nearest of the gallery.

    Raises:
        ValueError: an empty gallery, or k outside 1 to its size.
    """
    if not 1 <= k <= len(gallery):
        raise ValueError(f"recall_at needs 1 <= k <= {len(gallery)} (the gallery), received {k}")
    nearest = squared_distances(embeddings, gallery).topk(k, largest=False).indices
    return 100 * float((gallery_labels[nearest] == labels[:, None]).any(1).float().mean())


class EmbeddingNet(nn.Module):
    """Any backbone that returns ``(N, C)`` features, a linear layer and the unit sphere: ``(N, *) -> (N, dim)``.

    ``EmbeddingNet.from_timm("resnet18")`` turns a timm model into an embedder.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int = 128) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, dim)

    @classmethod
    def from_timm(cls, name: str, dim: int = 128, **arguments: Any) -> EmbeddingNet:
        """Any architecture of timm with its pooling and without its classifier; ``arguments`` go to ``create_model``."""
        import timm

        backbone = timm.create_model(name, num_classes=0, **arguments)
        return cls(backbone, int(backbone.num_features), dim)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.head(self.backbone(x)), dim=1)
