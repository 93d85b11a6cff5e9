"""AdaBound and AMSBound: Adam whose rates are clipped into a narrowing band (Luo et al., arXiv 1902.09843)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from zoo.optimizers._base import Lists, MomentOptimizer, Scratch, TensorOrFloat, check_betas, check_common, check_range


def bounds(final_lr: TensorOrFloat, gamma: float, t: TensorOrFloat) -> tuple[Any, Any]:
    r""":math:`\alpha^* (1 - 1/(\rho t + 1))` and :math:`\alpha^* (1 + 1/(\rho t))` with :math:`\rho` = ``gamma``."""
    return final_lr * (1 - 1 / (gamma * t + 1)), final_lr * (1 + 1 / (gamma * t))


class AdaBound(MomentOptimizer):
    r"""AdaBound, and with ``amsbound`` AMSBound. For every tensor at its step :math:`t`:

    .. math:: m = \beta_1 m + (1 - \beta_1) g, \qquad v = \beta_2 v + (1 - \beta_2) g^2

    .. math:: \hat\eta = \mathrm{clip}\left(\frac{\gamma_t \sqrt{1 - \beta_2^t}}{(1 - \beta_1^t)(\sqrt v + \epsilon)},
              \alpha^* \Big(1 - \tfrac{1}{\rho t + 1}\Big),\ \alpha^* \Big(1 + \tfrac{1}{\rho t}\Big)\right)

    .. math:: w \leftarrow w - \hat\eta \odot m

    with :math:`\alpha^* = \text{final\_lr} \cdot \gamma_t / \gamma_0`: a schedule scales the band too.
    :math:`\gamma_0` is the group's ``initial_lr``, which schedulers and this optimizer share and ``state_dict``
    carries. AMSBound takes the running maximum of :math:`v`.

    Args:
        params: parameters or groups; groups added later are updated like the first.
        lr: :math:`\gamma_0`, the rate at the start.
        betas: :math:`(\beta_1, \beta_2)`.
        final_lr: :math:`\alpha^*`, the rate at the end; it multiplies a momentum that carries :math:`1 - \beta_1`, so
            0.1 here moves as far as torch's SGD does with lr 0.01 and momentum 0.9.
        gamma: :math:`\rho`, how fast the band narrows.
        eps: added to the root before the bias correction, as in the authors' code.
        weight_decay: L2 penalty, as in the authors' AdaBound.
        amsbound: AMSBound.
        foreach: multi-tensor implementation; ``None`` chooses it for all but plain CPU tensors.
        capturable: keep the step counter on the device, for CUDA graphs.

    Raises:
        ValueError: a hyperparameter outside its range; ``lr`` must be positive, as the band is relative to it.
        TypeError: complex or integer parameters.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsbound: bool = False,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        name = "amsbound" if amsbound else "adabound"
        tiny = torch.finfo(torch.float32).tiny
        check_common(name, lr, eps, weight_decay)
        check_range(name, "final_lr", final_lr, 0.0)
        check_range(name, "gamma", gamma, tiny, 1.0)
        check_betas(name, betas)
        super().__init__(
            params,
            {
                "lr": lr, "betas": betas, "final_lr": final_lr, "gamma": gamma, "eps": eps,
                "weight_decay": weight_decay, "amsbound": amsbound, "foreach": foreach, "capturable": capturable,
            },
        )  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("initial_lr", group["lr"])
        if not isinstance(group["initial_lr"], Tensor) and not group["initial_lr"] > 0:
            self.param_groups.pop()
            raise ValueError(f"adabound needs lr > 0, its band is relative to it; received {group['initial_lr']!r}")

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> None:
        super()._init_group(group, *lists)
        if group["amsbound"]:
            for p in group["params"]:
                if p.grad is not None and "max_exp_avg_sq" not in self.state[p]:  # also when switched on later
                    self.state[p]["max_exp_avg_sq"] = torch.zeros_like(self.state[p]["exp_avg_sq"])

    def _maxima(self, group: dict[str, Any]) -> list[Tensor]:
        return [self.state[p]["max_exp_avg_sq"] for p in group["params"] if p.grad is not None]

    def update(self, group: dict[str, Any], at: Lists) -> None:
        params, grads, first, second, steps = at
        (beta1, beta2), lr = group["betas"], group["lr"]
        final_lr = group["final_lr"] * lr / group["initial_lr"]
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        if group["amsbound"]:
            maxima = self._maxima(group)
            torch._foreach_maximum_(maxima, second)
            second = maxima
        rate = torch._foreach_sqrt(second)
        torch._foreach_add_(rate, group["eps"])
        torch._foreach_reciprocal_(rate)
        torch._foreach_mul_(rate, [lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) for t in steps])
        band = [bounds(final_lr, group["gamma"], t) for t in steps]
        clipped = [r.clamp(low, high) for r, (low, high) in zip(rate, band, strict=True)]
        torch._foreach_addcmul_(params, clipped, first, -1.0)

    def update_one_by_one(self, group: dict[str, Any], at: Lists, scratch: Scratch) -> None:
        (beta1, beta2), lr, decay = group["betas"], float(group["lr"]), group["weight_decay"]
        final_lr = group["final_lr"] * lr / float(group["initial_lr"])
        maxima = self._maxima(group) if group["amsbound"] else at.second
        for w, g, m, v, t, top in zip(*at, maxima, strict=True):
            if decay:
                g = torch.add(g, w, alpha=decay, out=scratch(1, w))
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            if top is not v:
                torch.maximum(top, v, out=top)
            size = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
            low, high = bounds(final_lr, group["gamma"], t)
            rate = torch.sqrt(top, out=scratch(0, w)).add_(group["eps"]).reciprocal_().mul_(size).clamp_(low, high)
            w.addcmul_(rate, m, value=-1.0)


class AMSBound(AdaBound):
    """AMSBound: :class:`AdaBound` on the running maximum of the second moment."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, final_lr, gamma, eps, weight_decay, amsbound=True, foreach=foreach, capturable=capturable
        )
