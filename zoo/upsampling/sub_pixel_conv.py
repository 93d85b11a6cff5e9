"""Sub-pixel convolution: convolve at low resolution, shuffle channels into pixels (Shi et al., arXiv 1609.05158)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def icnr_(weight: Tensor, scale: int, init: Callable[[Tensor], object] = nn.init.kaiming_normal_) -> Tensor:
    """Initialise a convolution in front of ``pixel_shuffle`` so that it begins as nearest-neighbour upsampling.

    One filter is drawn for each output channel and repeated for all ``scale^2`` pixels of its cell (Aitken et al.,
    arXiv 1707.02937). Independent filters would begin as a checkerboard.

    Args:
        weight: ``(C r^2, *)``, in torch's order (the cell varies fastest), changed in place.
        scale: r.
        init: draws the ``(C, *)`` filters in place.

    Returns:
        ``weight``.

    Raises:
        ValueError: a first dimension that ``scale^2`` does not divide.
    """
    cell = scale * scale
    if weight.shape[0] % cell:
        raise ValueError(f"icnr needs output channels divisible by {cell}, received weights {tuple(weight.shape)}")
    filters = torch.empty_like(weight[: weight.shape[0] // cell])
    init(filters)
    return weight.copy_(filters.repeat_interleave(cell, 0))


class SubPixelConv(nn.Module):
    r"""A convolution to ``C r^2`` channels and the periodic shuffle that makes an ``r`` times larger map of them.

    .. math:: \mathrm{PS}(T)_{c,\, r y + d_y,\, r x + d_x} = T_{c r^2 + d_y r + d_x,\, y,\, x}

    in torch's channel order; the paper's text lets ``c`` vary fastest, the same for one channel. It computes what a
    transposed convolution with kernel ``r k`` and stride ``r`` does, without its zeros.

    Args:
        in_channels: C of the input ``(N, C, H, W)``.
        out_channels: channels of the output ``(N, out_channels, r H, r W)``.
        scale: r.
        kernel_size: odd; the size is kept (paper: 3 in the last layer).
        bias: of the convolution.
        icnr: start as nearest-neighbour upsampling (not in the paper; see :func:`icnr_`).

    Raises:
        ValueError: sizes below 1, an even ``kernel_size``, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int,
        kernel_size: int = 3,
        bias: bool = True,
        icnr: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, scale) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "sub_pixel_conv needs in_channels, out_channels, scale >= 1 and an odd kernel_size, received "
                f"{in_channels}, {out_channels}, {scale} and {kernel_size}"
            )
        self.in_channels, self.out_channels, self.scale, self.icnr = in_channels, out_channels, scale, icnr
        self.conv = nn.Conv2d(in_channels, out_channels * scale**2, kernel_size, padding=kernel_size // 2, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw anew: ``nn.Conv2d``'s own law, copied over each cell with ``icnr``."""
        self.conv.reset_parameters()
        if self.icnr:
            icnr_(self.conv.weight, self.scale, lambda w: nn.init.kaiming_uniform_(w, a=5**0.5))
            if self.conv.bias is not None:
                icnr_(self.conv.bias, self.scale, lambda b: b.copy_(self.conv.bias[:: self.scale**2]))  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"sub_pixel_conv was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}")
        return F.pixel_shuffle(self.conv(x), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, icnr={self.icnr}"
