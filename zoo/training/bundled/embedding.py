"""``facenet_mnist``: ResNet-8 embeddings of MNIST digits, trained with the triplet loss on semi-hard negatives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.claims.data import Split, mnist5k
from zoo.metric_learning._distances import EmbeddingNet, recall_at
from zoo.metric_learning.facenet import FaceNetLoss
from zoo.models.small import embedding_resnet8

CLASSES, EACH, STEPS, LR = 10, 8, 800, 2e-3
MEAN, STD = 0.1307, 0.3081


def prepared(x: Tensor) -> Tensor:
    """Images in [0, 1] as the network wants them."""
    return (x - MEAN) / STD


def balanced(labels: Tensor) -> Tensor:
    """Indices of ``EACH`` images of every class."""
    groups = [(labels == c).nonzero().squeeze(1) for c in range(CLASSES)]
    return torch.cat([g[torch.randperm(len(g))[:EACH]] for g in groups])


@torch.no_grad()
def embed(model: nn.Module, x: Tensor) -> Tensor:
    """Embeddings in eval mode, in parts of 500."""
    model.eval()
    return torch.cat([model(prepared(part)) for part in x.split(500)])


def recall(model: nn.Module, data: Split) -> float:
    """Recall@1 in percent: test images as queries, training images as the gallery."""
    return recall_at(embed(model, data.x_test), data.y_test, embed(model, data.x_train), data.y_train)


def make(seed: int = 0) -> tuple[EmbeddingNet, dict[str, float]]:
    """Adam with a cosine to zero, ten classes times eight images a batch, margin 0.2."""
    data = mnist5k()
    torch.manual_seed(seed)
    model, loss = embedding_resnet8(), FaceNetLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    model.train()
    for _ in range(STEPS):
        index = balanced(data.y_train)
        optimizer.zero_grad(set_to_none=True)
        loss(model(prepared(data.x_train[index])), data.y_train[index]).backward()
        optimizer.step()
        schedule.step()
    return model, {"recall@1": round(recall(model, data), 2)}
