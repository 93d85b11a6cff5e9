"""Cosine Normalization: cosine similarity in place of the dot product (Luo et al., arXiv 1702.05870)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization._patches import (
    PaddingMode,
    check_conv_input,
    pad_like,
    patch_square_sum,
    patch_variance,
    per_filter,
)
from zoo.numerics import wide


def unit_filters(weight: Tensor, eps: float, centred: bool) -> Tensor:
    r"""Filters scaled to norm one, :math:`w / \sqrt{\|w\|^2 + \epsilon}`, after removing their mean if ``centred``."""
    flat = wide(weight).flatten(1)
    if centred:
        flat = flat - flat.mean(1, keepdim=True)
    return (flat * (flat.square().sum(1, keepdim=True) + eps).rsqrt()).view_as(weight)


class CosineLinear(nn.Linear):
    r"""Fully connected layer whose outputs are cosines.

    .. math:: y_j = \frac{w_j \cdot x}{\sqrt{\|w_j\|^2 + \epsilon}\,\sqrt{\|x\|^2 + \epsilon}} + b_j

    ``centred`` subtracts the mean over the features from w and x first: Pearson's correlation coefficient.

    Args:
        in_features: features of the input ``(*, in_features)``.
        out_features: features of the output ``(*, out_features)``.
        bias: an offset after the cosine. The paper's neuron has none.
        centred: the paper's centred form.
        eps: inside both roots; keeps value and gradient finite at the zero vector.

    Raises:
        ValueError: ``eps`` negative, or an input with other features.
        TypeError: integer input.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, centred: bool = False, eps: float = 1e-6
    ) -> None:
        if eps < 0:
            raise ValueError(f"cosine_norm needs eps >= 0, received {eps}")
        super().__init__(in_features, out_features, bias)
        self.centred, self.eps = centred, eps

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"cosine_norm takes (*, {self.in_features}), received {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"cosine_norm takes floating point input, received {x.dtype}")
        values = wide(x)
        if self.centred:
            values = values - values.mean(-1, keepdim=True)
        inverse = (values.square().sum(-1, keepdim=True) + self.eps).rsqrt()
        # The input is scaled before the product: a half precision product of large vectors could overflow.
        y = F.linear((values * inverse).to(x.dtype), unit_filters(self.weight, self.eps, self.centred).to(x.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, centred={self.centred}, eps={self.eps}"


class CosineConv2d(nn.Conv2d):
    r"""Convolution whose outputs are cosines between filter and patch.

    The norm of every patch is one box convolution over the channel sum of :math:`x^2`; nothing is unfolded.
    ``centred`` uses the patch's standard deviation (mean over channels and kernel positions removed, padded zeros
    included), so the output is Pearson's correlation. With ``groups`` a patch holds the group's channels.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as
            ``nn.Conv2d``; ``bias`` is an offset after the cosine, which the paper does not have.
        centred: the paper's centred form.
        eps: inside both roots.

    Shapes: ``(N, C, H, W) -> (N, out_channels, Ho, Wo)``, values in [-1, 1] without bias.

    Raises:
        ValueError: ``eps`` negative, or an input that is not ``(N, in_channels, H, W)``.
        TypeError: integer input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        centred: bool = False,
        eps: float = 1e-6,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        if eps < 0:
            raise ValueError(f"cosine_norm needs eps >= 0, received {eps}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode=padding_mode
        )
        self.centred, self.eps = centred, eps

    def forward(self, x: Tensor) -> Tensor:
        check_conv_input(self, x, "cosine_norm")
        x, padding = pad_like(self, x)
        weight = unit_filters(self.weight, self.eps, self.centred)
        y = F.conv2d(x, weight.to(x.dtype), None, self.stride, padding, self.dilation, self.groups)
        if self.centred:
            square = patch_variance(self, x, padding) * self.weight[0].numel()
        else:
            square = patch_square_sum(self, x, padding)
        y = (y * per_filter((square + self.eps).rsqrt(), self.out_channels)).to(y.dtype)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, centred={self.centred}, eps={self.eps}"
