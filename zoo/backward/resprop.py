"""ReSprop: reuse the previous output gradient where the new one hardly differs (Goli and Aamodt, CVPR 2020)."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reuse(torch.autograd.Function):
    """Identity whose backward pass mixes the gradient with the stored one."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, y: Tensor, store: GradientReuse) -> Tensor:
        ctx.store = store  # type: ignore[attr-defined]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.store.mix(grad), None  # type: ignore[attr-defined]


#: Layers by the number that stands for them in compiled graphs, which hold tensors and numbers only.
_STORES: weakref.WeakValueDictionary[int, GradientReuse] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


@torch.library.custom_op("zoo::resprop_mix", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _mix(grad: Tensor, number: int) -> Tensor:
    """:meth:`GradientReuse.mix` as one opaque operator: state that a backward pass writes cannot be traced."""
    mixed = _STORES[number].mix(grad)
    return mixed.clone() if mixed is grad else mixed


@_mix.register_fake
def _(grad: Tensor, number: int) -> Tensor:
    return torch.empty_like(grad)


class _CompiledReuse(torch.autograd.Function):
    """:class:`_Reuse` for graphs that are traced."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, y: Tensor, number: int) -> Tensor:
        ctx.number = number  # type: ignore[attr-defined]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.ops.zoo.resprop_mix(grad, ctx.number), None  # type: ignore[attr-defined]


class GradientReuse(nn.Module):
    r"""The state of one layer: a stored gradient of one sample, and an adaptive threshold.

    .. math:: \hat g_b = g' + T_\tau(g_b - g'), \qquad T_\tau(d) = d\,[\,|d| > \tau\,]

    ``g'`` is the output gradient of one sample of the previous step. After each step the threshold is halved when fewer
    differences than wanted survived, and doubled when more did.

    Args:
        reuse: share of entries to take from the stored gradient, in [0, 1); 0 switches the method off. Change the
            attribute during training for a warm-up (the authors begin without reuse and reach their target at epoch 9).
        threshold: first value of tau (authors' code: 1e-7).

    Raises:
        ValueError: ``reuse`` outside [0, 1) or a threshold that is not positive.
    """

    threshold: Tensor
    survived: Tensor
    previous: Tensor | None

    def __init__(self, reuse: float = 0.5, threshold: float = 1e-7) -> None:
        super().__init__()
        if not 0 <= reuse < 1:
            raise ValueError(f"resprop needs 0 <= reuse < 1, received {reuse}")
        if not threshold > 0:
            raise ValueError(f"resprop needs threshold > 0, received {threshold}")
        self.reuse, self.first_threshold = reuse, threshold
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("survived", torch.ones(()))
        # Moves with the module, stays out of checkpoints: the first step after loading one is exact.
        self.register_buffer("previous", None, persistent=False)
        self._enter()

    def _enter(self) -> None:
        self.number = next(_NUMBERS)
        _STORES[self.number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and unpickled modules have a state, and so a number, of their own."""
        super().__setstate__(state)
        self._enter()

    def reset(self) -> None:
        """Forget the stored gradient, as the authors do at the start of every epoch: the next step is exact."""
        self.previous = None

    @torch.no_grad()
    def mix(self, grad: Tensor) -> Tensor:
        """The gradient that goes on, ``(B, *)``; stores sample 0 for the next step and moves the threshold."""
        previous = self.previous
        self.previous = grad[0].clone()
        # Another layout (first step, other image size) has nothing to compare with: this step is exact.
        if previous is None or previous.shape != grad.shape[1:] or previous.dtype != grad.dtype or self.reuse == 0:
            return grad
        difference = grad - previous
        keep = difference.abs() > self.threshold.to(grad.dtype)
        share = keep.float().mean()
        wanted = 1 - self.reuse
        factor = torch.where(share > wanted, 2.0, torch.where(share < wanted, 0.5, 1.0))
        self.survived.copy_(share)
        mixed = previous + difference * keep
        self.threshold.mul_(factor)
        return mixed

    def forward(self, y: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return y
        if torch.compiler.is_compiling():
            return _CompiledReuse.apply(y, self.number)
        return _Reuse.apply(y, self)

    def extra_repr(self) -> str:
        return f"reuse={self.reuse:g}"


class ReSpropLinear(nn.Linear):
    r"""A linear layer whose products in the backward pass use the mixed gradient.

    With :math:`\hat g` of :class:`GradientReuse`: :math:`\partial L / \partial x = \hat g W` and
    :math:`\partial L / \partial W = \hat g^\top x`; the bias takes the exact gradient, as in the authors' code.

    This is a simulation: the products stay dense, so nothing gets faster here. The paper's speed needs hardware that
    skips the reused part.

    Args:
        in_features, out_features, bias: as ``nn.Linear``.
        reuse: share of entries taken from the stored gradient.
        threshold: first value of tau.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, reuse: float = 0.5, threshold: float = 1e-7
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.gradient = GradientReuse(reuse, threshold)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gradient(F.linear(x, self.weight))
        return y if self.bias is None else y + self.bias.to(y.dtype)


class ReSpropConv2d(nn.Conv2d):
    """A convolution whose backward pass uses the mixed gradient; a simulation, as :class:`ReSpropLinear`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d``.
        reuse: share of entries taken from the stored gradient.
        threshold: first value of tau.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        reuse: float = 0.5,
        threshold: float = 1e-7,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.gradient = GradientReuse(reuse, threshold)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gradient(self._conv_forward(x, self.weight, None))
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


def set_reuse(model: nn.Module, reuse: float) -> None:
    """Give every layer of the method in ``model`` the share ``reuse``, for a warm-up."""
    if not 0 <= reuse < 1:
        raise ValueError(f"resprop needs 0 <= reuse < 1, received {reuse}")
    for module in model.modules():
        if isinstance(module, GradientReuse):
            module.reuse = reuse
