"""Funnel activation: a ReLU whose threshold is a small spatial filter (Ma, Zhang and Sun, arXiv 2007.11824)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.activations._funnel import funnel


class FReLU(nn.Module):
    r"""FReLU: each value competes with a learned summary of its own window.

    .. math:: y_{c,i,j} = \max\bigl(x_{c,i,j},\; T(x)_{c,i,j}\bigr), \qquad
              T(x) = \mathrm{BN}\Bigl(\sum_{u,v} p_{c,u,v}\, x_{c,i+u,j+v}\Bigr)

    with one window ``p_c`` per channel (a depthwise convolution). The light form replaces the window by a row and a
    column, each with its own BatchNorm: ``T = BN(K_{1 x k} * x) + BN(K_{k x 1} * x)``.

    In evaluation the BatchNorm is folded into the window, so that the layer costs one depthwise convolution and one
    maximum; gradients still reach every parameter. In training on the CPU the plain form is one operator that keeps
    its input alone for the way back and computes the window's response again there; its second derivatives are
    autograd's. Elsewhere, and in the light form, autograd sees convolution, BatchNorm and maximum.

    Args:
        num_channels: C of the input ``(N, C, H, W)``.
        kernel_size: odd window size (paper: 3).
        light: the separable form of the authors' code.
        bias: bias of the window. BatchNorm removes it, the authors' plain form has it all the same.
        zero_init: start with the gain of BatchNorm at 0, so that the layer begins as an exact ReLU; meant for
            activations put into trained networks. The paper does not do this.
        eps: of the BatchNorm.
        momentum: of the BatchNorm.

    Raises:
        ValueError: ``num_channels`` below 1, an even or non-positive ``kernel_size``, or an input that is not
            ``(N, num_channels, H, W)``.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        light: bool = False,
        bias: bool = False,
        zero_init: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"frelu needs num_channels >= 1, received {num_channels}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"frelu needs an odd kernel_size >= 1 (the window is centred), received {kernel_size}")
        self.num_channels, self.kernel_size, self.light = num_channels, kernel_size, light
        shapes = [(1, kernel_size), (kernel_size, 1)] if light else [(kernel_size, kernel_size)]
        self.windows = nn.ModuleList(
            nn.Conv2d(num_channels, num_channels, (h, w), padding=(h // 2, w // 2), groups=num_channels, bias=bias)
            for h, w in shapes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(num_channels, eps=eps, momentum=momentum) for _ in shapes)
        self.zero_init = zero_init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He-normal windows, BatchNorm at 1 (0 with ``zero_init``) and 0."""
        for window, norm in self._pairs():
            # Depthwise: an output reads k * k values, while init.kaiming_normal_'s fan_out would count C times as many.
            nn.init.normal_(window.weight, std=(2.0 / window.weight[0].numel()) ** 0.5)
            if window.bias is not None:
                nn.init.zeros_(window.bias)
            norm.reset_parameters()
            if self.zero_init:
                nn.init.zeros_(norm.weight)

    def _pairs(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        return cast("list[tuple[nn.Conv2d, nn.BatchNorm2d]]", list(zip(self.windows, self.norms, strict=True)))

    def funnel(self, x: Tensor) -> Tensor:
        """The spatial condition ``T(x)``, of the shape of ``x``."""
        first, *second = [
            norm(window(x)) if self.training else _folded(x, window, norm) for window, norm in self._pairs()
        ]
        return first + second[0] if second else first

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"frelu was made for (N, {self.num_channels}, H, W), received {tuple(x.shape)}: "
                "it looks at neighbours in two spatial directions, so that tokens and vectors have no funnel"
            )
        if self.training and x.device.type == "cpu" and self._is_one_operator(x):
            return self._fused(x)
        return torch.maximum(x, self.funnel(x).to(x.dtype))

    def _is_one_operator(self, x: Tensor) -> bool:
        """The plain form with its own BatchNorm and more than one value a channel (one is an error BatchNorm words)."""
        norm = self.norms[0]
        return (
            not self.light
            and type(norm) is nn.BatchNorm2d
            and norm.training
            and norm.affine
            and x.shape[0] * x.shape[2] * x.shape[3] > 1
        )

    def _fused(self, x: Tensor) -> Tensor:
        """One operator, then what BatchNorm does to its running statistics."""
        window, norm = self._pairs()[0]
        y, mean, var = funnel(x, window.weight, norm.weight, norm.bias, norm.eps)
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked.add_(1)
                count = norm.num_batches_tracked.to(mean.dtype)
                rate = count.reciprocal() if norm.momentum is None else norm.momentum
                n = x.numel() // x.shape[1]
                if window.bias is not None:  # BatchNorm takes it out of y, its mean does not
                    mean = mean + window.bias
                norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
                norm.running_var.lerp_((var * (n / (n - 1))).to(norm.running_var.dtype), rate)
        if window.bias is not None:
            # Its gradient is zero, not missing: it stays a part of the graph, as optimizers and DDP expect.
            y = y + 0 * window.bias.to(y.dtype).view(-1, 1, 1)
        return y

    def extra_repr(self) -> str:
        return f"{self.num_channels}, kernel_size={self.kernel_size}, light={self.light}"


def _folded(x: Tensor, window: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """``norm(window(x))`` with running statistics, as a single depthwise convolution."""
    if norm.running_mean is None or norm.running_var is None:
        return norm(window(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if window.bias is not None:
        shift = shift + window.bias * scale
    weight = window.weight * scale.view(-1, 1, 1, 1)
    return F.conv2d(x, weight.to(x.dtype), shift.to(x.dtype), padding=window.padding, groups=window.groups)
