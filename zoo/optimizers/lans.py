"""LANS: layer-wise steps on normalised gradients with a Nesterov-like term (Zheng et al., arXiv 2006.13484)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from zoo.optimizers._base import Lists, MomentOptimizer, Scratch, check_betas, check_common


def trust_ratios(weights: Iterable[Tensor], updates: Iterable[Tensor]) -> list[Tensor]:
    """``||w|| / ||u||`` for every tensor, 1 where either norm is zero. 0-dim tensors, never read on the host.

    Out-of-place throughout: on a sharded DTensor a norm is a partial sum, which these operations reduce over the
    shards, where an in-place operation would not.
    """
    ratios = []
    for w, u in zip(torch._foreach_norm(list(weights)), torch._foreach_norm(list(updates)), strict=True):
        ratios.append(torch.where(w > 0, torch.where(u > 0, w / u, 1.0), 1.0))
    return ratios


class LANS(MomentOptimizer):
    r"""LANS, algorithm 2 of the paper. For every tensor :math:`w` with gradient :math:`g` at its step :math:`t`:

    .. math:: \tilde g = g / (\lVert g \rVert + \epsilon), \quad
              m = \beta_1 m + (1 - \beta_1) \tilde g, \quad v = \beta_2 v + (1 - \beta_2) \tilde g^2

    .. math:: d = \sqrt{v / (1 - \beta_2^t)} + \epsilon, \quad
              r = \frac{m / (1 - \beta_1^t)}{d} + \lambda w, \quad c = \frac{\tilde g}{d} + \lambda w

    .. math:: w \leftarrow w - \gamma \lVert w \rVert
              \left[\beta_1 \frac{r}{\lVert r \rVert} + (1 - \beta_1) \frac{c}{\lVert c \rVert}\right]

    where a ratio of norms is 1 if either norm is zero. The scale of the gradient has no effect, so clipping has none.
    Every tensor is adapted, biases included, as in the authors' code; give such tensors a group of their own with
    ``weight_decay=0`` to take them out of the decay.

    Args:
        params: parameters or groups.
        lr: :math:`\gamma`; a tensor is allowed with ``capturable`` or under ``torch.compile``.
        betas: :math:`(\beta_1, \beta_2)`.
        eps: :math:`\epsilon`, outside the root and beside the gradient norm.
        weight_decay: :math:`\lambda`, inside both directions and so inside their norms.
        foreach: multi-tensor implementation; ``None`` chooses it for all but plain CPU tensors.
        capturable: keep the step counter on the device, for CUDA graphs.

    Raises:
        ValueError: a hyperparameter outside its range.
        TypeError: complex or integer parameters.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        check_common("lans", lr, eps, weight_decay)
        check_betas("lans", betas)
        options = {"foreach": foreach, "capturable": capturable}
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **options})

    def update(self, group: dict[str, Any], at: Lists) -> None:
        params, grads, first, second, steps = at
        (beta1, beta2), eps, decay, lr = group["betas"], group["eps"], group["weight_decay"], group["lr"]
        current = torch._foreach_div(grads, torch._foreach_add(torch._foreach_norm(grads), eps))
        torch._foreach_lerp_(first, current, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, current, current, 1 - beta2)

        denominator = torch._foreach_sqrt(second)
        torch._foreach_div_(denominator, [(1 - beta2**t) ** 0.5 for t in steps])
        torch._foreach_add_(denominator, eps)
        momentum = torch._foreach_div(first, [1 - beta1**t for t in steps])
        torch._foreach_div_(momentum, denominator)
        torch._foreach_div_(current, denominator)
        if decay:
            torch._foreach_add_(momentum, params, alpha=decay)
            torch._foreach_add_(current, params, alpha=decay)

        # Both ratios are taken before the weights move.
        of_momentum = [ratio * (-lr * beta1) for ratio in trust_ratios(params, momentum)]
        of_current = [ratio * (-lr * (1 - beta1)) for ratio in trust_ratios(params, current)]
        torch._foreach_addcmul_(params, momentum, of_momentum)
        torch._foreach_addcmul_(params, current, of_current)

    def update_one_by_one(self, group: dict[str, Any], at: Lists, scratch: Scratch) -> None:
        (beta1, beta2), eps, decay, lr = group["betas"], group["eps"], group["weight_decay"], float(group["lr"])
        for w, g, m, v, t in zip(*at, strict=True):
            root1, root2 = 1 - beta1**t, (1 - beta2**t) ** 0.5
            current = torch.div(g, torch.linalg.vector_norm(g) + eps, out=scratch(0, w))
            m.lerp_(current, 1 - beta1)
            v.mul_(beta2).addcmul_(current, current, value=1 - beta2)
            denominator = torch.sqrt(v, out=scratch(1, w)).add_(eps * root2)  # d * root2
            # A direction is wanted, so each is built up to the factor that saves a pass: r = scale * (w + ...).
            # Below 1e-20 the decay is beyond the reach of float32 beside m / d, and dividing by it might overflow.
            if decay > 1e-20:
                torch.addcdiv(w, current, denominator, value=root2 / decay, out=current)
                momentum = torch.addcdiv(w, m, denominator, value=root2 / root1 / decay, out=denominator)
                scale_momentum = scale_current = decay
            else:
                current.div_(denominator)
                momentum = torch.div(m, denominator, out=denominator)
                scale_momentum, scale_current = root2 / root1, root2
            size = float(torch.linalg.vector_norm(w))
            norms = [float(torch.linalg.vector_norm(u)) for u in (momentum, current)]
            w_over_r = size / norms[0] if size > 0 and norms[0] > 0 else scale_momentum
            w_over_c = size / norms[1] if size > 0 and norms[1] > 0 else scale_current
            w.add_(momentum, alpha=-lr * beta1 * w_over_r).add_(current, alpha=-lr * (1 - beta1) * w_over_c)
