"""Distances, retrieval metrics and the embedding head that metric learning shares."""

from __future__ import annotations

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
    """Share of queries, in percent, with one of their own class among the k nearest of the gallery."""
    nearest = squared_distances(embeddings, gallery).topk(k, largest=False).indices
    return 100 * float((gallery_labels[nearest] == labels[:, None]).any(1).float().mean())


class EmbeddingNet(nn.Module):
    """Any backbone that returns ``(N, C)`` features, a linear layer and the unit sphere: ``(N, *) -> (N, dim)``.

    ``EmbeddingNet(timm.create_model("resnet18", num_classes=0), 512)`` turns a timm model into an embedder.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int = 128) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.head(self.backbone(x)), dim=1)
