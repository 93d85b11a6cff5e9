"""Meta-Weight-Net: learn the map from a sample's loss to its weight (Shu et al., arXiv 1902.07379)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels._choice import Choice
from zoo.noisy_labels.base import Algorithm
from zoo.noisy_labels.functional import (
    Params,
    alone,
    differentiable,
    gradient,
    parameters_of,
    per_sample,
    random_state,
    same_randomness,
    slope,
    trained,
)
from zoo.noisy_labels.layerwise import Parts, Pass
from zoo.numerics import wide


class WeightNet(nn.Sequential):
    """V: ``(N,)`` losses to ``(N,)`` weights in (0, 1), an MLP 1-hidden-1 with ReLU and sigmoid."""

    def __init__(self, hidden: int = 100) -> None:
        super().__init__(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, losses: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(losses.unsqueeze(1)).squeeze(1)


class MetaWeightNet(Algorithm):
    r"""Step the weight net so that a virtual step of the network lowers the clean loss, then step the network.

    .. math:: \hat\theta(\Theta) = \theta - \frac{\alpha}{N} \sum_i V(\ell_i; \Theta)\, \nabla \ell_i(\theta), \qquad
              \frac{\partial L_{meta}(\hat\theta)}{\partial \Theta} = -\frac{\alpha}{N} \sum_i u_i
              \frac{\partial V(\ell_i; \Theta)}{\partial \Theta}, \qquad
              u_i = \langle \nabla L_{meta}(\hat\theta), \nabla \ell_i(\theta) \rangle

    All ``u`` come from one forward-mode pass, so that no second derivative is ever built; the pass of the real step also gives
    the virtual one. The weight net has its own Adam, which steps inside ``forward`` (in training mode) and is part of the state
    dict.

    Args:
        model: ``(N, *) -> (N, K)``.
        hidden: width of V (paper: 100).
        meta_lr: of V's Adam (authors' code: 1e-3).
        meta_weight_decay: authors' code: 1e-4.
        normalize: divide the weights by their sum (the authors' first script; the paper's appendix too normalises within the
            batch) instead of N (the paper's equations, the later script). Without it, every weight rises while all samples
            help alike at the start of training, until V's sigmoid is flat and it learns nothing more.
        num_samples: size of the training set, for :meth:`suspects`.
        layerwise: take :math:`u_i` and both weighted gradients layer by layer from one pass, where the network allows it, as in
            :class:`~zoo.noisy_labels.learning_to_reweight.LearningToReweight`; ``output`` has then no gradient of its own to
            give. False: always by forward mode.

    ``forward(input, target, meta_batch, lr, index=None)``; ``lr`` is the network's learning rate of this step.

    Raises:
        ValueError: ``meta_batch`` or ``lr`` missing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"meta_batch", "lr"})
    looks_ahead: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        hidden: int = 100,
        meta_lr: float = 1e-3,
        meta_weight_decay: float = 1e-4,
        normalize: bool = True,
        num_samples: int | None = None,
        layerwise: bool = True,
    ) -> None:
        super().__init__(model, num_samples)
        self.layerwise = Choice(layerwise)
        self.weight_net = WeightNet(hidden).to(self.device)
        self.normalize = normalize
        self.meta_optimizer = torch.optim.Adam(self.weight_net.parameters(), meta_lr, weight_decay=meta_weight_decay)

    def get_extra_state(self) -> dict[str, Any]:
        return self.meta_optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.meta_optimizer.load_state_dict(state)

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights that multiply the losses in a sum, ``(N,)``."""
        v = self.weight_net(losses)
        return v / (v.sum().clamp_min(1e-12) if self.normalize else len(v))

    def learn(self, gradients: tuple[Tensor, ...]) -> None:
        """One step of V's own optimizer."""
        for p, g in zip(self.weight_net.parameters(), gradients, strict=True):
            p.grad = g
        self.meta_optimizer.step()
        self.meta_optimizer.zero_grad(set_to_none=True)

    def meta_gradient(
        self, input: Tensor, target: Tensor, losses: Tensor, meta_batch: tuple[Tensor, Tensor], lr: float
    ) -> tuple[Tensor, ...]:
        """The gradient of the clean loss after the virtual step with respect to V's parameters."""
        model, (clean, labels) = self.trainable_module, meta_batch
        params = parameters_of(model)
        weights = self.weigh(losses.detach())
        fixed = weights.detach()
        with differentiable(input.device):
            with same_randomness(input.device):
                if losses.requires_grad:  # the graph of the real pass serves the virtual step too
                    trained = [p for p in model.parameters() if p.requires_grad]
                    found = torch.autograd.grad(
                        (fixed * losses).sum(), trained, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                    step = dict(zip(params, found, strict=True))
                else:
                    step = gradient(model, params, input, target, fixed)
            virtual = {name: p - lr * step[name] for name, p in params.items()}
            with same_randomness(input.device):
                direction = gradient(model, virtual, clean, labels)
            u = slope(model, params, direction, input, target)
            return torch.autograd.grad(-lr * (u * weights).sum(), list(self.weight_net.parameters()))

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        meta_batch: tuple[Tensor, Tensor] | None = None,
        lr: float | None = None,
        index: Tensor | None = None,
        **extra: Any,
    ) -> dict[str, Tensor]:
        meta_batch, lr = self.extra("meta_batch", meta_batch), self.extra("lr", lr)
        model, learns = self.trainable_module, self.training and torch.is_grad_enabled()
        own = trained(model)
        if learns and (parts := self.layerwise.possible(model, list(own.values()), input)):
            params = {name: p.detach() for name, p in own.items()}
            if self.layerwise.made(model, parts, params, lambda: gradient(model, params, *meta_batch), input, target):
                return self._by_layer(parts, params, input, target, meta_batch, lr, index)
        shares = learns and alone(model)
        if shares:
            with same_randomness(input.device):
                output = model(input)
            losses = F.cross_entropy(wide(output), target, reduction="none")
            self.learn(self.meta_gradient(input, target, losses, meta_batch, lr))
        else:
            if learns:
                with torch.no_grad(), same_randomness(input.device), differentiable(input.device):
                    fixed = per_sample(model, parameters_of(model), input, target)
                with same_randomness(input.device):
                    self.learn(self.meta_gradient(input, target, fixed.detach(), meta_batch, lr))
            output = model(input)
            losses = F.cross_entropy(wide(output), target, reduction="none")
        with torch.no_grad():
            weights = self.weigh(losses)
        self.remember(index, weights * len(weights))
        return {"loss": (weights * losses).sum(), "output": output, "weights": weights}

    def _by_layer(
        self,
        parts: Parts,
        params: Params,
        input: Tensor,
        target: Tensor,
        meta_batch: tuple[Tensor, Tensor],
        lr: float,
        index: Tensor | None,
    ) -> dict[str, Tensor]:
        model, before = self.trainable_module, random_state(input.device)
        run = Pass(model, parts, input, target)
        weights = self.weigh(run.losses)
        step = run.gradient(weights.detach())
        virtual = {name: p - lr * s for (name, p), s in zip(params.items(), step, strict=True)}
        with same_randomness(input.device, before), differentiable(input.device):
            u = run.slopes(gradient(model, virtual, *meta_batch))
        self.learn(torch.autograd.grad(-lr * (u * weights).sum(), list(self.weight_net.parameters())))
        with torch.no_grad():
            weights = self.weigh(run.losses)
        self.remember(index, weights * len(weights))
        return {"loss": run.weighted(weights), "output": run.output, "weights": weights}
