"""Normalized convolution: standardise every patch under the kernel (Kim et al., arXiv 2005.05274)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.normalization._patches import PaddingMode, check_conv_input, pad_like, patch_variance, per_filter
from zoo.numerics import wide


class NormalizedConv2d(nn.Conv2d):
    r"""Convolution of standardised patches.

    For the patch :math:`p \in R^n` under the kernel, :math:`n = C k_h k_w / groups`:

    .. math:: y_o = s_o\, w_o \cdot \frac{p - \mu_p}{\sqrt{\sigma_p^2 + \epsilon}} + b_o
                  = s_o\, \frac{(w_o - \bar w_o) \cdot p}{\sqrt{\sigma_p^2 + \epsilon}} + b_o

    The second form is exact, because :math:`\sum_i (p_i - \mu_p) = 0`, and needs three ordinary convolutions instead
    of an unfolded input: one with the centred filters and two one-channel box convolutions for the variance.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as
            ``nn.Conv2d``. Padded zeros take part in the statistics, as in the authors' code; with ``groups`` a
            patch holds the channels of its group.
        scale: learn the gain :math:`s_o` per filter (ones at the start).
        unbiased: divide the variance by n - 1 (the authors' C++ file) instead of n (their Python file).
        eps: inside the root. The authors' Python file has 1e-14, with which flat patches amplify rounding noise by
            1e7; their C++ file has 1e-5, which is the default here.

    Shapes: ``(N, C, H, W) -> (N, out_channels, Ho, Wo)``.

    Raises:
        ValueError: ``eps`` negative, ``unbiased`` with one value a patch, or an input that is not
            ``(N, in_channels, H, W)``.
        TypeError: integer input.
    """

    scale: nn.Parameter | None

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
        scale: bool = False,
        unbiased: bool = False,
        eps: float = 1e-5,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        if eps < 0:
            raise ValueError(f"normalized_conv needs eps >= 0, received {eps}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode=padding_mode
        )
        values = self.weight[0].numel()
        if unbiased and values < 2:
            raise ValueError("normalized_conv with unbiased needs two values a patch or more, received 1")
        self.unbiased, self.eps = unbiased, eps
        self._correction = values / (values - 1) if unbiased else 1.0
        self.register_parameter("scale", nn.Parameter(torch.ones(out_channels)) if scale else None)

    def reset_parameters(self) -> None:
        """He initialisation by fan-out, as the authors do; bias zero."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_conv_input(self, x, "normalized_conv")
        x, padding = pad_like(self, x)
        weight = wide(self.weight)
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        if self.scale is not None:
            weight = weight * self.scale.view(-1, 1, 1, 1)
        y = F.conv2d(x, weight.to(x.dtype), None, self.stride, padding, self.dilation, self.groups)
        variance = patch_variance(self, x, padding) * self._correction
        y = (y * per_filter((variance + self.eps).rsqrt(), self.out_channels)).to(y.dtype)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale is not None}, unbiased={self.unbiased}, eps={self.eps}"
