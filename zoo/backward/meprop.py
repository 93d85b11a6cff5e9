"""meProp: only the k largest entries of an output gradient go back (Sun et al., arXiv 1706.06197)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MODES = ("unified", "per_example")


def keep_top_k(grad: Tensor, k: int) -> Tensor:
    """Zero all but the k entries of largest magnitude in each row of ``(B, n)``."""
    index = grad.abs().topk(k, -1).indices
    return torch.zeros_like(grad).scatter(-1, index, grad.gather(-1, index))


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
        if k < 1:
            raise ValueError(f"meprop needs k >= 1, received {k}")
        if mode not in _MODES:
            raise ValueError(f"meprop takes mode {', '.join(_MODES)}, received {mode!r}")
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
