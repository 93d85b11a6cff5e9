"""AdaNorm: a scale that depends on the input and gets no gradient (Xu et al., arXiv 1911.07013)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from zoo.normalization import _kernels
from zoo.normalization._function import call, stored, traced
from zoo.normalization.positional_norm import standardise_last
from zoo.numerics import wide


class _AdaNorm(Function):
    """AdaNorm over dimension 1, where the channels are not innermost: ``(z, mean, std, y)``; keeps the input.

    ``dx = (g - mean_c(g) - y * sum_c(g * y) / m) / std`` with ``g = C (1 - k y) dz``: the factor is a constant for the
    gradient. Second derivatives follow from the moments returned, as in positional normalization. ``y``, times C, is kept
    where a kernel made it in half precision: a pass of it costs more than half the size of a float32 input. Else None.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, scale: float, k: float, eps: float, count: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        share = count / x.shape[1]  # the sample variance is the biased one over this
        if scale and (found := _kernels.standardise_positions(x, scale * share**0.5, eps * share)) is not None:
            y, mean, std = found  # times scale
            return torch.addcmul(y, y, y, value=-k / scale), mean, std.mul_(share**-0.5), y
        mean = wide(x).mean(1, keepdim=True)
        y = wide(x) - mean
        std = (y * y).sum(1, keepdim=True).div_(count).add_(eps).sqrt_()
        y.mul_(stored(std.reciprocal()))
        return (y * (-scale * k)).add_(scale).mul_(y).to(x.dtype), mean, std, None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        x, ctx.scale, ctx.k, _, ctx.count = inputs
        ctx.set_materialize_grads(False)
        if output[3] is not None:
            ctx.mark_non_differentiable(output[3])
        ctx.save_for_backward(x, *output[1:])

    @staticmethod
    def backward(
        ctx: Any, dz: Tensor | None, dmean: Tensor | None, dstd: Tensor | None, dy: None
    ) -> tuple[Tensor | None, ...]:
        x, mean, std, y = ctx.saved_tensors
        if dz is None:
            dz = torch.zeros_like(x)
        elif y is not None and dmean is None and dstd is None and _kernels.fits(x, dz):
            root = (ctx.count / x.shape[1]) ** 0.5
            damped = torch.addcmul(dz, dz, y, value=-ctx.k / ctx.scale)
            dx = _kernels.standardise_positions_backward(damped, x, ctx.scale * root, mean, std * root)
            if dx is not None:
                return dx, None, None, None, None
        inverse = std.reciprocal()
        y, dz = (wide(x) - mean) * inverse, wide(dz)
        g = (dz * y.detach()).mul_(-ctx.scale * ctx.k).add_(dz, alpha=ctx.scale).mul_(inverse)  # over std from here on
        constant = stored(g.mean(1, keepdim=True).neg())
        if not torch.is_grad_enabled() and not traced():  # in place: at most two tensors of this size beside the output
            slope = y.mul_(g).sum(1, keepdim=True).mul_(inverse).div_(-ctx.count)
            torch.sub(wide(x), mean, out=y)
            dx = g.addcmul_(y, slope).add_(constant)
        else:
            dx = torch.addcmul(g, y, stored((g * y).sum(1, keepdim=True) / -ctx.count)).add_(constant)
        if dstd is not None:
            dx = dx + (wide(x) - mean) * inverse * (dstd / ctx.count)
        if dmean is not None:
            dx = dx + dmean / x.shape[1]
        return dx.to(x.dtype), None, None, None, None


def ada_norm(
    x: Tensor, scale: float = 2.0, k: float = 0.1, eps: float = 1e-5, unbiased: bool = False, dim: int = -1
) -> Tensor:
    r"""Standardise, then damp large values by a factor that is a constant for the gradient.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad z = C \; \mathrm{sg}(1 - k y) \odot y

    ``sg`` stops the gradient: with it the derivative is that of ``y`` times a number; without it, it would be
    :math:`C (1 - 2 k y)`.

    Args:
        x: any shape, floating point.
        scale: C. The authors' translation code takes 2.
        k: damping (paper: 1/10).
        eps: inside the root.
        unbiased: sample variance (n - 1), as in the authors' code; the paper divides by n.
        dim: the dimension that is standardised.

    Returns:
        Same shape as ``x``; its mean over ``dim`` is :math:`-C k` (but for eps), not 0.

    Raises:
        TypeError: integer input.
    """
    if not x.is_floating_point():
        raise TypeError(f"ada_norm needs floating-point input, received {x.dtype}")
    if dim == 1 and x.dim() > 2 and not x.movedim(1, -1).is_contiguous():  # no copy into channels-last order
        z: Tensor = call(_AdaNorm, x, scale, k, eps, x.shape[1] - int(unbiased))[0]
        return z
    y = standardise_last(x.movedim(dim, -1), eps, unbiased).movedim(-1, dim)
    if y.dtype in _kernels.HALF:  # rounded twice where the product would be three times
        return torch.addcmul(y * scale, y.detach(), y, value=-scale * k)
    return (y.detach() * (-scale * k)).add_(scale) * y


class AdaNorm(nn.Module):
    r"""AdaNorm over the last dimension: ``(N, *, C) -> (N, *, C)``, without parameters; see :func:`ada_norm`.

    Args:
        num_channels: C, the size of the last dimension.
        scale, k, eps, unbiased: as in :func:`ada_norm`.

    Raises:
        ValueError: ``num_channels`` below 2 with ``unbiased``, a ``k`` below 0, or an input of another size.
        TypeError: integer input.
    """

    dim = -1

    def __init__(
        self, num_channels: int, scale: float = 2.0, k: float = 0.1, eps: float = 1e-5, unbiased: bool = False
    ) -> None:
        super().__init__()
        if num_channels < (2 if unbiased else 1):
            raise ValueError(f"ada_norm needs num_channels >= {2 if unbiased else 1}, received {num_channels}")
        if k < 0:
            raise ValueError(f"ada_norm needs k >= 0, received {k}")
        self.num_channels, self.scale, self.k, self.eps, self.unbiased = num_channels, scale, k, eps, unbiased

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[self.dim] != self.num_channels:
            raise ValueError(f"ada_norm was made for {self.num_channels} channels, received {tuple(x.shape)}")
        return ada_norm(x, self.scale, self.k, self.eps, self.unbiased, self.dim)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, scale={self.scale}, k={self.k}, eps={self.eps}, unbiased={self.unbiased}"


class AdaNorm2d(AdaNorm):
    """:class:`AdaNorm` over the channels of ``(N, C, *)``, one position at a time."""

    dim = 1
