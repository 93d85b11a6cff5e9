"""SGD-G and Adam-G: optimizers on the Grassmann manifold for weights before BN (Cho and Lee, arXiv 1709.09603)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

TINY = 1e-12


def grassmann_groups(
    model: nn.Module, lr_grassmann: float = 0.2, lr: float = 0.01, weight_decay: float = 5e-4
) -> list[dict[str, Any]]:
    """Split parameters as the authors do, and put the manifold weights on the manifold (in place).

    Convolution weights with fewer filters than values a filter (out < fan-in) are scaled to unit filters and go to a
    group with ``grassmann=True``. Other weights get ``lr`` and ``weight_decay``, vectors (biases, gains) no decay.

    The function of the network does not change where every such convolution is followed by batch normalization.

    Raises:
        ValueError: no convolution weight fits on the manifold.
    """
    manifold: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            w = layer.weight
            if w.requires_grad and w.shape[0] < w[0].numel():
                manifold.append(w)
    if not manifold:
        raise ValueError(f"grassmann_groups found no convolution with out < fan-in in {type(model).__name__}")
    taken = {id(w) for w in manifold}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    with torch.no_grad():
        for w in manifold:
            flat = w.flatten(1)
            w.div_(flat.norm(dim=1).clamp_min(TINY).view(-1, *(1,) * (w.dim() - 1)))
    groups = [
        {"params": manifold, "grassmann": True, "lr": lr_grassmann, "weight_decay": 0.0},
        {"params": [p for p in others if p.dim() > 1], "grassmann": False, "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in others if p.dim() <= 1], "grassmann": False, "lr": lr, "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def exp_map(y: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Geodesic from unit rows ``y (k, n)`` along tangent rows ``d``.

    .. math:: \exp_y(d) = y\cos\|d\| + u\sin\|d\|, \qquad \dot{\ } = u\cos\|d\| - y\sin\|d\|, \qquad u = d/\|d\|

    Returns:
        The end point, the transported direction u, and the length ``(k, 1)``.
    """
    length = d.norm(dim=1, keepdim=True)
    u = d / length.clamp_min(TINY)
    cos, sin = length.cos(), length.sin()
    return y * cos + u * sin, u * cos - y * sin, length


def riemannian_gradient(y: Tensor, grad: Tensor, omega: float, clip: float | None) -> Tensor:
    r"""Tangent part of the gradient, plus the orthogonality term, clipped row by row.

    .. math:: h = (I - y y^\top)\left(g + 2\omega (Y Y^\top - I) Y\right), \qquad \|h\| \le \nu

    The term is the gradient of :math:`\frac\omega2\|Y Y^\top - I\|_F^2` with the filters as rows of Y.
    """
    if omega:
        grad = grad + 2 * omega * (y @ y.T @ y - y)
    h = grad - (y * grad).sum(1, keepdim=True) * y
    if clip is not None:
        h = h * (clip / h.norm(dim=1, keepdim=True).clamp_min(TINY)).clamp_max(1.0)
    return h


class _Grassmann(Optimizer):
    """Groups with ``grassmann=True`` move on the manifold, the others by SGD with Nesterov momentum."""

    def _move(self, y: Tensor, h: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """Where the filters ``y`` go along the tangent gradient ``h``: what SGD-G and Adam-G differ in."""
        raise NotImplementedError

    def _euclidean(self, p: Tensor, group: dict[str, Any]) -> None:
        grad = p.grad if not group["weight_decay"] else p.grad.add(p, alpha=group["weight_decay"])  # type: ignore[union-attr, arg-type]
        if group["momentum"]:
            state = self.state[p]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = grad.clone()  # type: ignore[union-attr]
            else:
                buffer.mul_(group["momentum"]).add_(grad)
            grad = grad.add(buffer, alpha=group["momentum"])  # type: ignore[union-attr]
        p.add_(grad, alpha=-group["lr"])  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, group in moving:  # all are looked at before any is moved
            if p.grad.is_sparse:  # type: ignore[union-attr]
                raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
            if group["grassmann"] and p.dim() < 2:
                raise ValueError(f"a manifold weight has shape (out, ...), received {tuple(p.shape)}")
        for p, group in moving:
            if not group["grassmann"]:
                self._euclidean(p, group)
            else:
                # Rounding drifts off the sphere, and a caller may hand in weights that never were on it.
                y = p.flatten(1)
                y = y / y.norm(dim=1, keepdim=True).clamp_min(TINY)
                h = riemannian_gradient(y, p.grad.flatten(1), group["omega"], group["grad_clip"])
                p.copy_(self._move(y, h, self.state[p], group).view_as(p))
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("grassmann", False)


def _check(lr: float, momentum: float, omega: float, grad_clip: float | None) -> None:
    if lr < 0 or not 0 <= momentum < 1 or omega < 0 or (grad_clip is not None and grad_clip <= 0):
        raise ValueError(
            "needs lr >= 0, momentum in [0, 1), omega >= 0 and grad_clip > 0 or None, "
            f"received {lr}, {momentum}, {omega}, {grad_clip}"
        )


class SGDG(_Grassmann):
    r"""SGD-G: momentum SGD along geodesics of the unit sphere, per filter.

    .. math:: d \leftarrow \gamma d - \eta\,\hat h, \qquad y \leftarrow \exp_y(d), \qquad
              d \leftarrow \|d\|\,(u\cos\|d\| - y\sin\|d\|)

    Args:
        params: parameters or groups; put manifold weights into a group with ``grassmann=True``
            (:func:`grassmann_groups`). Everything else moves by SGD with Nesterov momentum.
        lr: eta of groups without one (authors: 0.2 on the manifold, 0.01 elsewhere).
        momentum: gamma (0.9).
        weight_decay: outside the manifold only; on it the length of a filter does not exist.
        omega: weight of the orthogonality term (0.1).
        grad_clip: nu, bound on the tangent gradient of a filter (0.1), None for none.
        grassmann: value for groups that do not say.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        omega: float = 0.1,
        grad_clip: float | None = 0.1,
        grassmann: bool = False,
    ) -> None:
        _check(lr, momentum, omega, grad_clip)
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "weight_decay": weight_decay,
                "omega": omega, "grad_clip": grad_clip, "grassmann": grassmann,
            },
        )  # fmt: skip

    def _move(self, y: Tensor, h: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        d = -group["lr"] * h
        if "tangent" in state:
            d = d + group["momentum"] * state["tangent"]
        y, u, length = exp_map(y, d)
        state["tangent"] = length * u
        return y


class AdamG(_Grassmann):
    r"""Adam-G: Adam on the sphere, with one scalar second moment per filter.

    .. math:: m &\leftarrow \beta_1 m + (1-\beta_1)\,\hat h, \qquad
              v \leftarrow \beta_2 v + (1-\beta_2)\,\hat h^\top\hat h \\
              d &= -\eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt{v + \epsilon}}, \qquad
              y \leftarrow \exp_y(d), \quad m \text{ transported along } d

    Not the ``AdamG`` of other libraries, which is another algorithm. Outside the manifold SGD with Nesterov momentum.

    Args:
        params, weight_decay, omega, grad_clip, grassmann: as in :class:`SGDG`.
        lr: eta of groups without one (authors: 0.05 on the manifold, 0.01 elsewhere).
        momentum: beta_1, and the momentum elsewhere (0.9).
        beta2: of the second moment (0.99).
        eps: inside the root.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        omega: float = 0.1,
        grad_clip: float | None = 0.1,
        grassmann: bool = False,
    ) -> None:
        _check(lr, momentum, omega, grad_clip)
        if not 0 <= beta2 < 1:
            raise ValueError(f"needs beta2 in [0, 1), received {beta2}")
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "beta2": beta2, "eps": eps, "weight_decay": weight_decay,
                "omega": omega, "grad_clip": grad_clip, "grassmann": grassmann,
            },
        )  # fmt: skip

    def _move(self, y: Tensor, h: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if "step" not in state:
            state.update(step=0, m=torch.zeros_like(y), v=y.new_zeros(y.shape[0], 1))
        state["step"] += 1
        beta1, beta2, t = group["momentum"], group["beta2"], state["step"]
        m = beta1 * state["m"] + (1 - beta1) * h
        state["v"] = beta2 * state["v"] + (1 - beta2) * h.square().sum(1, keepdim=True)
        rate = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        y, u, _ = exp_map(y, -rate * m / (state["v"] + group["eps"]).sqrt())
        state["m"] = -m.norm(dim=1, keepdim=True) * u  # m points against d, whose direction u was transported
        return y
