"""MLNT: a step on made-up wrong labels must not move the prediction (Li et al., arXiv 1812.05214)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels.base import Algorithm
from zoo.noisy_labels.functional import call, differentiable, per_sample
from zoo.numerics import wide


def neighbour_labels(embedding: Tensor, target: Tensor, share: float, neighbours: int) -> Tensor:
    """Labels in which a random ``share`` of the batch takes the label of one of its nearest neighbours, ``(N,)``."""
    n = len(target)
    k = min(neighbours, n - 1)
    distance = torch.cdist(embedding, embedding).fill_diagonal_(torch.inf)
    near = distance.topk(k, largest=False).indices
    pick = near.gather(1, torch.randint(k, (n, 1), device=target.device)).squeeze(1)
    changed = torch.rand(n, device=target.device).argsort() < round(share * n)
    return torch.where(changed, target[pick], target)


class MLNT(Algorithm):
    r"""Meta-learning for noise tolerance; needs no clean data.

    .. math:: \theta'_m = \theta - \alpha \nabla_\theta \mathrm{CE}(X, \hat Y_m; \theta), \qquad
              J = \frac1M \sum_m \mathrm{KL}\left(f(X; \tilde\theta) \,\|\, f(X; \theta'_m)\right), \qquad
              L = \mathrm{CE}(X, Y; \theta) + \eta_t J

    with the teacher :math:`\tilde\theta \leftarrow \gamma \tilde\theta + (1 - \gamma) \theta` after every step.

    Args:
        model: ``(N, *) -> (N, K)``.
        num_sets: M synthetic label sets (authors' code: 10).
        meta_lr: :math:`\alpha` (authors' code: 0.02).
        share: of the batch that is relabelled (0.5).
        neighbours: nearest neighbours to take a label from (10).
        gamma: momentum of the teacher (0.99, later 0.999).
        ramp: ``(start, end)`` steps; the weight rises as :math:`\exp(-5 (1 - u)^2)` between them (500, 2000).
        weight: :math:`\eta` at the end of the ramp.
        first_order: treat the inner gradient as a constant; cheaper, another gradient.
        embed: ``(N, *) -> (N, D)`` in which neighbours are sought; the teacher's logits by default, where the authors'
            code takes features of a network trained beforehand.
        num_samples: size of the training set, for :meth:`suspects`.

    Raises:
        ValueError: values out of range.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    looks_ahead: ClassVar[bool] = True
    steps: Tensor

    def __init__(
        self,
        model: nn.Module,
        num_sets: int = 10,
        meta_lr: float = 0.02,
        share: float = 0.5,
        neighbours: int = 10,
        gamma: float = 0.99,
        ramp: tuple[int, int] = (500, 2000),
        weight: float = 1.0,
        first_order: bool = False,
        embed: Callable[[Tensor], Tensor] | None = None,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(model, num_samples)
        if num_sets < 0 or not 0 <= share <= 1 or not 0 <= gamma <= 1 or neighbours < 1 or not 0 <= ramp[0] <= ramp[1]:
            raise ValueError("mlnt needs num_sets >= 0, share and gamma in [0, 1], neighbours >= 1 and an ordered ramp")
        self.num_sets, self.meta_lr, self.share, self.neighbours = num_sets, meta_lr, share, neighbours
        self.gamma, self.ramp, self.weight, self.first_order, self.embed = gamma, ramp, weight, first_order, embed
        self.teacher = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def strength(self) -> Tensor:
        """The weight of J at this step, a scalar tensor."""
        start, end = self.ramp
        u = ((self.steps - start) / max(end - start, 1)).clamp(0, 1)
        return torch.where(self.steps < start, 0.0, self.weight * torch.exp(-5 * (1 - u) ** 2))

    def consistency(self, input: Tensor, target: Tensor) -> Tensor:
        """J: mean over the label sets of the divergence from the teacher; "
        "differentiable in the network's parameters."""
        model = self.trainable_module
        params: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            teacher = wide(self.teacher(input)).log_softmax(1)
            embedding = wide(self.embed(input)) if self.embed is not None else teacher
        total = torch.zeros((), device=input.device, dtype=teacher.dtype)
        with differentiable(input.device):
            for _ in range(self.num_sets):
                fake = neighbour_labels(embedding, target, self.share, self.neighbours)
                inner = per_sample(model, params, input, fake).mean()
                slopes = torch.autograd.grad(inner, list(params.values()), create_graph=not self.first_order)
                moved = {n: p - self.meta_lr * g for (n, p), g in zip(params.items(), slopes, strict=True)}
                student = wide(call(model, moved, input)).log_softmax(1)
                total = total + F.kl_div(student, teacher, log_target=True, reduction="batchmean")
        return total / max(self.num_sets, 1)

    def forward(self, input: Tensor, target: Tensor, index: Tensor | None = None, **extra: Any) -> dict[str, Tensor]:
        output = self.trainable_module(input)
        losses = F.cross_entropy(wide(output), target, reduction="none")
        if index is not None and self.trust is not None:
            with torch.no_grad():
                belief = wide(self.teacher(input)).log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
            self.remember(index, belief)
        if not self.num_sets:
            return {"loss": losses.mean(), "output": output}
        consistency = self.consistency(input, target)
        return {"loss": losses.mean() + self.strength() * consistency, "output": output, "consistency": consistency}

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teacher; its buffers follow the network's, as an average would mix their counters."""
        for old, new in zip(self.teacher.parameters(), self.trainable_module.parameters(), strict=True):
            old.lerp_(new, 1 - self.gamma)
        for kept, current in zip(self.teacher.buffers(), self.trainable_module.buffers(), strict=True):
            kept.copy_(current)
        self.steps += 1

    def train(self, mode: bool = True) -> MLNT:
        super().train(mode)
        self.teacher.eval()
        return self
