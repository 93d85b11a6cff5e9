"""AdaX and AdaX-W: Adam with an exponentially long memory of squared gradients (Li et al., arXiv 2004.09740)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from zoo.optimizers._base import Lists, MomentOptimizer, Scratch, TensorOrFloat, check_common, check_range


def growth(beta2: float, t: TensorOrFloat) -> TensorOrFloat:
    r""":math:`s_t = (1 + \beta_2)^t - 1`, without cancellation; infinite, not an error, for very large t."""
    if isinstance(t, Tensor):
        return torch.expm1(t * math.log1p(beta2))
    try:
        return math.expm1(t * math.log1p(beta2))
    except OverflowError:
        return math.inf


class AdaX(MomentOptimizer):
    r"""AdaX (algorithm 1) and, with ``decoupled``, AdaX-W. For every tensor at its step :math:`t`:

    .. math:: m = \beta_1 m + (1 - \beta_1) g, \quad v = (1 + \beta_2) v + \beta_2 g^2, \quad
              \hat v = \frac{v}{(1 + \beta_2)^t - 1}, \quad w \leftarrow w - \gamma \frac{m}{\sqrt{\hat v}}

    The raw :math:`v` grows without bound (beyond float32 after some 900 000 steps), so the normalised :math:`\hat v` is
    kept: with :math:`s_t = (1 + \beta_2)^t - 1` the same recursion is

    .. math:: \hat v_t = \hat v_{t-1} + \frac{\beta_2}{s_t} (g^2 - \hat v_{t-1})

    There is no bias correction of :math:`m`: the first step has length :math:`(1 - \beta_1) \gamma`.

    Args:
        params: parameters or groups.
        lr: :math:`\gamma`; paper: 1.5e-3 for AdaX, 5e-3 for AdaX-W.
        betas: :math:`(\beta_1, \beta_2)`; :math:`\beta_2` is a growth rate near 0 (1e-4), not Adam's 0.999.
        eps: added to the root of the raw :math:`v` as in the authors' code, so it fades by :math:`\sqrt{s_t}`.
        weight_decay: L2 penalty, or with ``decoupled`` the rate of :math:`w \leftarrow w - \gamma \lambda w`.
        decoupled: AdaX-W.
        foreach: multi-tensor implementation; ``None`` chooses it for all but plain CPU tensors.
        capturable: keep the step counter on the device, for CUDA graphs.

    Raises:
        ValueError: a hyperparameter outside its range, ``betas[1]`` above 0.1 among them.
        TypeError: complex or integer parameters.
    """

    moments = ("exp_avg", "long_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.5e-3,
        betas: tuple[float, float] = (0.9, 1e-4),
        eps: float = 1e-12,
        weight_decay: float = 5e-4,
        *,
        decoupled: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        name = "adax_w" if decoupled else "adax"
        check_common(name, lr, eps, weight_decay)
        check_range(name, "betas[0]", betas[0], 0.0, 1.0)
        if not 0.0 < betas[1] <= 0.1:
            raise ValueError(
                f"{name} needs 0 < betas[1] <= 0.1, the growth rate of its memory (paper: 1e-4, where Adam has 0.999), "
                f"received {betas[1]!r}"
            )
        options = {"decoupled": decoupled, "foreach": foreach, "capturable": capturable}
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **options})

    def update(self, group: dict[str, Any], at: Lists) -> None:
        params, grads, first, second, steps = at
        (beta1, beta2), eps, decay, lr = group["betas"], group["eps"], group["weight_decay"], group["lr"]
        sums = [growth(beta2, t) for t in steps]
        if decay and not group["decoupled"]:
            grads = list(torch._foreach_add(grads, params, alpha=decay))
        torch._foreach_lerp_(first, grads, 1 - beta1)
        change = torch._foreach_mul(grads, grads)
        torch._foreach_sub_(change, second)
        torch._foreach_mul_(change, [beta2 / s for s in sums])
        torch._foreach_add_(second, change)
        denominator = torch._foreach_sqrt(second)
        torch._foreach_add_(denominator, [eps / s**0.5 for s in sums])
        if decay and group["decoupled"]:
            torch._foreach_mul_(params, 1 - lr * decay)
        update = torch._foreach_div(first, denominator)
        torch._foreach_mul_(update, -lr)
        torch._foreach_add_(params, update)

    def update_one_by_one(self, group: dict[str, Any], at: Lists, scratch: Scratch) -> None:
        (beta1, beta2), eps, decay, lr = group["betas"], group["eps"], group["weight_decay"], float(group["lr"])
        for w, g, m, v, t in zip(*at, strict=True):
            total = float(growth(beta2, t))
            share = beta2 / total
            if decay and not group["decoupled"]:
                g = torch.add(g, w, alpha=decay, out=scratch(1, w))
            m.lerp_(g, 1 - beta1)
            v.mul_(1 - share).addcmul_(g, g, value=share)
            denominator = torch.sqrt(v, out=scratch(0, w)).add_(eps / total**0.5)
            if decay and group["decoupled"]:
                w.mul_(1 - lr * decay)
            w.addcdiv_(m, denominator, value=-lr)


class AdaXW(AdaX):
    """AdaX-W: :class:`AdaX` with decoupled weight decay and the paper's defaults for it, lr 5e-3 and decay 5e-2."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 5e-3,
        betas: tuple[float, float] = (0.9, 1e-4),
        eps: float = 1e-12,
        weight_decay: float = 5e-2,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled=True, foreach=foreach, capturable=capturable)
