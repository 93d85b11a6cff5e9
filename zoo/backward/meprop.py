"""meProp: only the k largest entries of an output gradient go back (Sun et al., arXiv 1706.06197)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MODES = ("unified", "per_example")


Pair = tuple[int, int]


def keep_top_k(grad: Tensor, k: int, dim: int = -1) -> Tensor:
    """Zero all but the k entries of largest magnitude along ``dim``."""
    index = grad.abs().topk(k, dim).indices
    return torch.zeros_like(grad).scatter(dim, index, grad.gather(dim, index))


def _check(k: int, mode: str) -> None:
    if k < 1:
        raise ValueError(f"meprop needs k >= 1, received {k}")
    if mode not in _MODES:
        raise ValueError(f"meprop takes mode {', '.join(_MODES)}, received {mode!r}")


class _MeProp(torch.autograd.Function):
    """``x W^T`` whose backward pass reads k columns of the output gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, k: int, unified: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.k, ctx.unified = k, unified  # type: ignore[attr-defined]
        return F.linear(x, weight)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        want_x, want_w = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        if not ctx.unified:  # type: ignore[attr-defined]
            sparse = keep_top_k(grad, ctx.k)  # type: ignore[attr-defined]
            return sparse @ weight if want_x else None, sparse.mT @ x if want_w else None, None, None
        # One choice for the whole batch: both products shrink to k columns of ordinary dense matrices.
        rows = grad.abs().sum(0).topk(ctx.k, sorted=False).indices  # type: ignore[attr-defined]
        small = grad.index_select(1, rows)
        grad_x = small @ weight.index_select(0, rows) if want_x else None
        grad_w = torch.zeros_like(weight).index_copy(0, rows, small.mT @ x) if want_w else None
        return grad_x, grad_w, None, None


class MePropLinear(nn.Linear):
    r"""A linear layer that back-propagates the k largest parts of its output gradient.

    .. math:: \hat g = \operatorname{top}_k(g), \qquad \frac{\partial L}{\partial x} = \hat g\, W, \qquad
              \frac{\partial L}{\partial W} = \hat g^\top x, \qquad \frac{\partial L}{\partial b} = \sum_b g_b

    for ``y = x W^T + b``. The forward pass is that of ``nn.Linear``, and so is the gradient of the bias, as in the
    authors' code. ``g`` is the gradient before the activation, that is of this layer's own output.

    Args:
        in_features, out_features, bias: as ``nn.Linear``.
        k: entries kept (authors' code: 30); ``out_features`` or more is the ordinary layer.
        mode: ``"unified"`` keeps the same k outputs for the whole batch, by the sum of magnitudes, and does less work;
            ``"per_example"`` keeps k for each sample and saves nothing on dense hardware.

    Raises:
        ValueError: k below 1, or another mode.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, k: int = 30, mode: str = "unified"
    ) -> None:
        _check(k, mode)
        super().__init__(in_features, out_features, bias)
        self.k, self.mode = k, mode

    def forward(self, x: Tensor) -> Tensor:
        if self.k >= self.out_features:
            return F.linear(x, self.weight, self.bias)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            flat, weight = x.reshape(-1, self.in_features).to(dtype), self.weight.to(dtype)
        else:
            flat, weight = x.reshape(-1, self.in_features), self.weight
        y = _MeProp.apply(flat, weight, self.k, self.mode == "unified").view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}, mode={self.mode!r}"


class _MePropConv(torch.autograd.Function):
    """A convolution whose backward pass reads k channels of the output gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        weight: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
        k: int,
        unified: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding, dilation)  # type: ignore[attr-defined]
        ctx.groups, ctx.k, ctx.unified = groups, k, unified  # type: ignore[attr-defined]
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        wanted = [*ctx.needs_input_grad[:2], False]  # type: ignore[attr-defined]
        geometry, groups, k = ctx.geometry, ctx.groups, ctx.k  # type: ignore[attr-defined]

        def back(g: Tensor, w: Tensor) -> tuple[Tensor | None, Tensor | None]:
            return torch.ops.aten.convolution_backward(g, x, w, None, *geometry, False, [0, 0], groups, wanted)[:2]

        if not ctx.unified:  # type: ignore[attr-defined]
            return (*back(keep_top_k(grad, k, 1), weight), *(None,) * 6)
        rows = grad.abs().sum((0, 2, 3)).topk(k, sorted=False).indices
        small = grad.index_select(1, rows)
        if groups > 1:  # the kept channels are spread unevenly over the groups: zeros, and no work saved
            return (*back(torch.zeros_like(grad).index_copy(1, rows, small), weight), *(None,) * 6)
        grad_x, grad_w = back(small, weight.index_select(0, rows))
        if grad_w is not None:
            grad_w = torch.zeros_like(weight).index_copy(0, rows, grad_w)
        return (grad_x, grad_w, *(None,) * 6)


class MePropConv2d(nn.Conv2d):
    r"""A convolution that back-propagates k channels of its output gradient; the paper has linear layers only.

    A position of a sample takes the part of an example, so that a 1 x 1 kernel is :class:`MePropLinear` over positions:
    ``"per_example"`` keeps the k largest of the O channels at each position and saves nothing, ``"unified"`` the k
    channels with the largest sum of magnitudes over batch and positions; both gradients are then convolutions of k
    channels (with one group; with more, channels are set to zero instead).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d`` (padding in
            numbers).
        k: channels kept; ``out_channels`` or more is the ordinary layer.
        mode: ``"unified"`` or ``"per_example"``.

    Raises:
        ValueError: k below 1, another mode, or padding by name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        k: int = 30,
        mode: str = "unified",
    ) -> None:
        _check(k, mode)
        if isinstance(padding, str):
            raise ValueError(f"meprop takes padding in numbers, received {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.k, self.mode = k, mode

    def forward(self, x: Tensor) -> Tensor:
        if self.k >= self.out_channels:
            return self._conv_forward(x, self.weight, self.bias)
        weight = self.weight
        if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        geometry = [[int(v) for v in pair] for pair in (self.stride, self.padding, self.dilation)]
        y = _MePropConv.apply(x, weight, *geometry, self.groups, self.k, self.mode == "unified")
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}, mode={self.mode!r}"
