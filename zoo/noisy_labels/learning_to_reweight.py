"""Learning to reweight: weigh samples by how their gradient agrees with clean ones (Ren et al., arXiv 1803.09050)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels._choice import Choice
from zoo.noisy_labels.base import Algorithm
from zoo.noisy_labels.functional import (
    differentiable,
    gradient,
    own_gradient,
    parameters_of,
    same_randomness,
    slope,
    trained,
)
from zoo.noisy_labels.layerwise import Pass
from zoo.numerics import wide


def agreement(model: nn.Module, input: Tensor, target: Tensor, meta_batch: tuple[Tensor, Tensor]) -> Tensor:
    r""":math:`u_i = \langle \nabla \ell_i(\theta), \nabla L_{meta}(\theta) \rangle` for every sample, ``(N,)``.

    The paper's look-ahead, :math:`-\partial L_{meta}(\theta - a \nabla \sum_j \epsilon_j \ell_j) / \partial
    \epsilon_i` at
    :math:`\epsilon = 0`, is ``a`` times this: one reverse pass over the meta batch, one forward-mode pass.
    """
    params = parameters_of(model)
    clean, labels = meta_batch
    with differentiable(input.device):
        direction = gradient(model, params, clean, labels)
        return slope(model, params, direction, input, target)


class LearningToReweight(Algorithm):
    r"""L2RW: :math:`w_i = \max(u_i, 0) / \sum_j \max(u_j, 0)`, then a step on :math:`\sum_i w_i \ell_i`.

    Args:
        model: ``(N, *) -> (N, K)``; any module that :func:`torch.func.functional_call` takes.
        num_samples: size of the training set, for :meth:`suspects`.
        layerwise: take :math:`u_i` and the weighted gradient layer by layer from one pass
            (:mod:`zoo.noisy_labels.layerwise`), two forward passes' work less. By default where the network allows it:
            convolutions, linear layers, GroupNorm and LayerNorm only, no autocast, one process, and a measurement on the
            first batch says so; ``output`` has then no gradient of its own to give. False: always by forward mode.

    ``forward(input, target, meta_batch, index=None)`` with ``meta_batch`` a clean, class-balanced ``(input, target)``.
    Returns the weights too. If no gradient agrees, all weights and the loss are 0.

    Raises:
        ValueError: ``meta_batch`` missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"meta_batch"})
    looks_ahead: ClassVar[bool] = True

    def __init__(self, model: nn.Module, num_samples: int | None = None, layerwise: bool = True) -> None:
        super().__init__(model, num_samples)
        self.layerwise = Choice(layerwise)

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        meta_batch: tuple[Tensor, Tensor] | None = None,
        index: Tensor | None = None,
        **extra: Any,
    ) -> dict[str, Tensor]:
        model = self.trainable_module
        clean, labels = self.extra("meta_batch", meta_batch)
        own = trained(model)
        params = {name: p.detach() for name, p in own.items()}
        parts = self.layerwise.possible(model, list(own.values()), input)
        with same_randomness(input.device), differentiable(input.device):
            if parts and parts.traceless:
                direction = own_gradient(model, own, clean, labels)
            else:
                direction = gradient(model, params, clean, labels)
        if parts and self.layerwise.made(model, parts, params, lambda: direction, input, target):
            run = Pass(model, parts, input, target)
            weights = self._weights(run.slopes(direction), index)
            return {"loss": run.weighted(weights), "output": run.output, "weights": weights}
        with same_randomness(input.device), differentiable(input.device):
            weights = self._weights(slope(model, params, direction, input, target), index)
        output = model(input)
        loss = (weights * F.cross_entropy(wide(output), target, reduction="none")).sum()
        return {"loss": loss, "output": output, "weights": weights}

    def _weights(self, u: Tensor, index: Tensor | None) -> Tensor:
        weights = u.clamp_min(0)
        total = weights.sum()
        self.remember(index, u / u.abs().mean().clamp_min(torch.finfo(u.dtype).tiny))
        return weights / torch.where(total > 0, total, torch.ones_like(total))
