"""Virtual adversarial training: smooth the prediction in its most sensitive direction (Miyato et al., 1704.03976)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from zoo.losses.base import check_reduction, reduce
from zoo.numerics import without_autocast


def unit(d: Tensor) -> Tensor:
    """Each sample scaled to L2 norm 1 over all its dimensions; by its largest entry first, so tiny ones survive."""
    flat = d.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(d.dtype).tiny)
    return (flat / flat.norm(dim=1, keepdim=True).clamp_min(torch.finfo(d.dtype).tiny)).view_as(d)


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise with the batch as before, but leave every running statistic and batch counter alone."""
    norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats and m.training]
    saved = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms]
    try:
        for m in norms:  # momentum 0 keeps the statistics without writing to tensors that autograd has saved
            m.momentum = 0.0
        yield
    finally:
        for m, (momentum, count) in zip(norms, saved, strict=True):
            m.momentum = momentum
            if count is not None and m.num_batches_tracked is not None:
                m.num_batches_tracked.copy_(count)


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """:math:`\\mathrm{KL}(p \\| q)` of each sample from log-probabilities, ``(N,)``."""
    return (clean.exp() * (clean - perturbed)).sum(1)


class VirtualAdversarialLoss(nn.Module):
    r"""Local distributional smoothness; needs the model and the input, no labels.

    .. math:: \mathrm{LDS}(x) = \mathrm{KL}\left(p(\cdot | x, \hat\theta) \,\|\, p(\cdot | x + r, \theta)\right), \qquad
              r = \epsilon\, g / \|g\|_2, \qquad g = \nabla_d\, \mathrm{KL}(p(x) \| p(x + \xi d))

    ``d`` starts as a random unit vector and is replaced by the unit gradient in each power iteration.

    Args:
        eps: :math:`\epsilon`, the L2 norm of the perturbation of a sample (authors' code: 8 for augmented CIFAR-10, 10
            without augmentation, 2.5 or 3.5 for SVHN). It depends on the scale of the input.
        xi: :math:`\xi`, the step of the finite difference (authors' code: 1e-6, which float32 barely resolves;
            default here 1e-3 in float32).
        power_iterations: 1 in the paper.
        entropy: weight of the conditional entropy :math:`H(p(x))` that is added ("VAT + EntMin"); 0 leaves it out.
        reduction: ``mean``, ``sum`` or ``none``.

    ``forward(model, input) -> scalar`` (or ``(N,)``). Running statistics of BatchNorm are not touched, all passes
    see the same
    dropout masks, parameters' ``.grad`` is not touched, and the direction is computed in float32.

    Raises:
        ValueError: negative ``eps``, ``xi`` not positive, fewer than one power iteration.
    """

    def __init__(
        self,
        eps: float = 8.0,
        xi: float = 1e-3,
        power_iterations: int = 1,
        entropy: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if eps < 0 or xi <= 0 or power_iterations < 1:
            raise ValueError(
                f"vat needs eps >= 0, xi > 0, power_iterations >= 1; received {eps}, {xi}, {power_iterations}"
            )
        self.eps, self.xi, self.power_iterations, self.entropy = eps, xi, power_iterations, entropy
        self.reduction = check_reduction(reduction)

    def _log_p(self, model: nn.Module, input: Tensor) -> Tensor:
        """Log-probabilities with the random state put back, so that the next pass draws the same masks."""
        devices = [input.device] if input.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            z = model(input)
        return (z.float() if z.dtype in (torch.float16, torch.bfloat16) else z).log_softmax(1)

    def direction(self, model: nn.Module, input: Tensor, clean: Tensor, d: Tensor) -> Tensor:
        """The unit direction, ``(N, *)``, after the power iterations from ``d``."""
        d = unit(d)
        for _ in range(self.power_iterations):
            with torch.enable_grad(), without_autocast(input.device.type):
                d = d.detach().requires_grad_()
                distance = divergence(clean, self._log_p(model, input + self.xi * d)).sum()
                (g,) = torch.autograd.grad(distance, d)
            d = unit(g)
        return d.detach()

    def forward(self, model: nn.Module, input: Tensor) -> Tensor:
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        with frozen_statistics(model):
            d = torch.randn_like(x)
            clean = self._log_p(model, input)
            r = self.eps * self.direction(model, x, clean.detach(), d)
            losses = divergence(clean.detach(), self._log_p(model, (x + r).to(input.dtype)))
        if self.entropy:
            losses = losses - self.entropy * (clean.exp() * clean).sum(1)
        return reduce(losses, self.reduction)

    def extra_repr(self) -> str:
        return f"eps={self.eps}, xi={self.xi}, power_iterations={self.power_iterations}"
