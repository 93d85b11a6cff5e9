"""Orthonormality penalty and modulation of backpropagated errors (Xie, Xiong and Pu, CVPR 2017, arXiv 1703.01827)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


def _matrices(weights: nn.Module | Iterable[Tensor]) -> list[Tensor]:
    """Every weight as matrices with filters as rows; one a group for grouped convolutions."""
    if not isinstance(weights, nn.Module):
        found = [(w, 1) for w in weights]
    else:
        layers = [m for m in weights.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
        found = [(m.weight, getattr(m, "groups", 1)) for m in layers]
    if not found:
        raise ValueError("orthonormal_modulation found no linear or convolution weight")
    for w, _ in found:
        if w.dim() < 2:
            raise ValueError(f"weights have shape (out, ...), received {tuple(w.shape)}")
    return [part for w, groups in found for part in w.flatten(1).chunk(groups)]


class OrthonormalRegularizer(nn.Module):
    r"""Penalty that takes the place of weight decay: filters of a layer should be orthonormal.

    .. math:: R = \frac\lambda2 \sum_l \|W_l W_l^\top - I\|_F^2, \qquad \nabla R = 2\lambda\,(W W^\top W - W)

    with the filters as the rows of W. More filters than values a filter cannot be orthonormal; they are split into
    consecutive sets of at most fan-in filters, each penalised by itself.

    Args:
        lam: lambda.

    Call with a model (its linear and convolution layers) or with weights ``(out, ...)``; returns a scalar.

    Raises:
        ValueError: negative lambda, or nothing to act on.
    """

    def __init__(self, lam: float = 1e-4) -> None:
        super().__init__()
        if lam < 0:
            raise ValueError(f"orthonormal_modulation needs lam >= 0, received {lam}")
        self.lam = lam

    def forward(self, weights: nn.Module | Iterable[Tensor]) -> Tensor:
        terms = []
        for matrix in _matrices(weights):
            wide = matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix
            for w in wide.split(min(wide.shape)):
                gram = w @ w.T
                terms.append((gram - torch.eye(len(w), dtype=w.dtype, device=w.device)).square().sum())
        return 0.5 * self.lam * torch.stack(terms).sum()

    def extra_repr(self) -> str:
        return f"lam={self.lam}"


class _Leave(Function):
    """At the input of a block; its backward pass comes last. The token's gradient is the std of the arriving error."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        ctx.limit = limit
        return x.view_as(x), x.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor, arrived: Tensor) -> tuple[Tensor, None]:
        leaving = grad.float().std(correction=0)
        ratio = (arrived.float() / leaving).clamp(1 / ctx.limit, ctx.limit)
        # No error, no scale: keeps zero gradients zero instead of 0/0.
        return grad * torch.where(leaving > 0, ratio, 1.0).to(grad.dtype), None


class _Arrive(Function):
    """At the output of a block: measures the error and sends its std along the token."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, token: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.float().std(correction=0).to(grad.dtype)


class ModulatedBackward(nn.Module):
    r"""Wrap a block so that the error leaves it as large as it arrived.

    .. math:: \delta_\mathrm{in} \leftarrow \delta_\mathrm{in}\,
              \frac{\mathrm{std}(\delta_\mathrm{out})}{\mathrm{std}(\delta_\mathrm{in})}

    The forward pass is the block's. Gradients of the block's own parameters are not touched; those of all earlier
    blocks change by a factor, so under Adam the effect nearly cancels.

    Args:
        block: takes and returns one tensor, e.g. Conv-BN-ReLU.
        limit: bound on the factor and its inverse.
        enabled: switch off after the first part of training.

    Raises:
        ValueError: limit below 1.
    """

    def __init__(self, block: nn.Module, limit: float = 100.0, enabled: bool = True) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"modulation needs limit >= 1, received {limit}")
        self.block, self.limit, self.enabled = block, limit, enabled

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.enabled):
            return self.block(x)
        x, token = _Leave.apply(x, self.limit)
        return _Arrive.apply(self.block(x), token)


def modulate_backward(module: nn.Module, limit: float = 100.0) -> nn.Module:
    """Wrap every child of an ``nn.Sequential`` that holds parameters in :class:`ModulatedBackward`, in place.

    Errors are made constant between consecutive parametric layers; a single layer that is no Sequential is wrapped as
    a whole by using the class itself.

    Raises:
        ValueError: ``module`` is no ``nn.Sequential`` or none of its children has parameters.
    """
    if not isinstance(module, nn.Sequential):
        raise ValueError(f"modulate_backward takes an nn.Sequential of blocks, received {type(module).__name__}")
    names = [n for n, child in module.named_children() if next(child.parameters(), None) is not None]
    if not names:
        raise ValueError("modulate_backward found no block with parameters")
    for name in names:
        child = getattr(module, name)
        if not isinstance(child, ModulatedBackward):
            setattr(module, name, ModulatedBackward(child, limit))
    return module
