"""Prototypical networks: classify by the nearest class mean of embedded examples (Snell et al., arXiv 1703.05175)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.task import TrainingTask
from torch import Tensor, nn
from torch.utils.data import Sampler


def prototypes(embedding: Tensor, target: Tensor, num_classes: int) -> Tensor:
    r""":math:`c_k = \frac{1}{|S_k|} \sum_{i \in S_k} f(x_i)`, ``(K, D)``; a class without examples gives nan."""
    sums = embedding.new_zeros(num_classes, embedding.shape[1]).index_add(0, target, embedding)
    return sums / torch.bincount(target, minlength=num_classes).to(embedding.dtype).unsqueeze(1)


class PrototypicalNetworks(TrainingTask):
    r"""Episodic training: support examples make prototypes, query examples are classified by distance.

    .. math:: p(y = k \mid x) = \mathrm{softmax}_k\left(-d(f(x), c_k)\right)

    Args:
        model: the embedding, ``(N, *) -> (N, D)`` (also ``(N, D, 1, 1)``, which is flattened).
        num_classes: classes ("way") of an episode.
        support: examples ("shot") of each class that make its prototype.
        metric: ``euclidean`` (squared, as the paper advises) or ``cosine``.

    ``forward(input, target)``: the batch holds for each class of the episode ``support`` consecutive examples and then its
    queries, the same number for all, as :class:`EpisodeSampler` draws them; ``target`` may hold any class ids. ``output`` are the
    ``(queries, num_classes)`` logits, classes in order of the episode.

    Raises:
        ValueError: unknown metric, a batch that does not divide, classes that are not grouped.
    """

    def __init__(self, model: nn.Module, num_classes: int = 5, support: int = 5, metric: str = "euclidean") -> None:
        first = next(model.parameters(), None)
        super().__init__(device=None if first is None else first.device, verbose=False)
        if metric not in ("euclidean", "cosine") or num_classes < 2 or support < 1:
            raise ValueError(
                "prototypical_networks needs metric euclidean or cosine, num_classes >= 2, support >= 1; "
                f"received {metric!r}, {num_classes}, {support}"
            )
        self.trainable_module = model
        self.num_classes, self.support, self.metric = num_classes, support, metric

    def logits(self, embedding: Tensor, means: Tensor) -> Tensor:
        """``(M, D)``, ``(K, D)`` to ``(M, K)``."""
        if self.metric == "cosine":
            return F.normalize(embedding, dim=1) @ F.normalize(means, dim=1).T
        return -(embedding.unsqueeze(1) - means).square().sum(2)

    def forward(self, input: Tensor, target: Tensor, **extra: Any) -> dict[str, Tensor]:
        each, rest = divmod(len(input), self.num_classes)
        if rest or each <= self.support:
            raise ValueError(
                f"an episode holds {self.num_classes} classes of more than {self.support} examples each, "
                f"received {len(input)} examples"
            )
        f = self.trainable_module(input).flatten(1)
        f = f.float() if f.dtype in (torch.float16, torch.bfloat16) else f
        groups = f.unflatten(0, (self.num_classes, each))
        means = groups[:, : self.support].mean(1)
        output = self.logits(groups[:, self.support :].flatten(0, 1), means)
        label = torch.arange(self.num_classes, device=f.device).repeat_interleave(each - self.support)
        return {"loss": F.cross_entropy(output, label), "output": output, "target": label}


class EpisodeSampler(Sampler[list[int]]):
    """Episodes: ``way`` random classes, of each ``shot`` support examples and then ``queries`` others.

    Args:
        labels: ``(N,)`` classes.
        way: classes an episode.
        shot: support examples a class.
        queries: query examples a class.
        episodes: number of batches.
        seed: of the draw.

    Raises:
        ValueError: fewer than ``way`` classes have ``shot + queries`` examples.
    """

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        way: int = 5,
        shot: int = 5,
        queries: int = 15,
        episodes: int = 100,
        seed: int = 0,
    ) -> None:
        given = torch.as_tensor(labels)
        members = [(given == c).nonzero().squeeze(1) for c in given.unique()]
        self.members = [m for m in members if len(m) >= shot + queries]
        if len(self.members) < way or min(way, shot, queries) < 1:
            raise ValueError(
                f"{way} classes of {shot + queries} examples were asked for, {len(self.members)} have as many"
            )
        self.way, self.each, self.episodes = way, shot + queries, episodes
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.episodes):
            batch: list[int] = []
            for c in torch.randperm(len(self.members), generator=self.generator)[: self.way].tolist():
                own = self.members[c]
                batch += own[torch.randperm(len(own), generator=self.generator)[: self.each]].tolist()
            yield batch
