"""Dense upsampling convolution: scores for a whole cell from each position (Wang et al., arXiv 1702.08502)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.upsampling._phases import space_to_depth


class DenseUpsamplingConv(nn.Module):
    r"""DUC: a convolution to ``L d^2`` channels, shuffled to ``L`` score maps ``d`` times as large.

    .. math:: S_{l,\, d y + d_y,\, d x + d_x} = T_{l d^2 + d_y d + d_x,\, y,\, x}, \qquad
              T = \sum_{\rho} W_\rho *_\rho x + b_\rho

    The authors' network sums four dilated convolutions for ``T``; one is the default here. Nothing is interpolated, so
    that details finer than the map can be decoded. Shuffling the scores and rearranging the labels
    (:func:`labels_in_cells`) give the same loss; the authors' code does the latter.

    Args:
        in_channels: C of the input ``(N, C, H, W)``.
        out_channels: L, number of classes; the output is ``(N, L, d H, d W)``.
        scale: d.
        kernel_size: odd.
        dilations: of the convolutions that are summed (authors' code: 6, 12, 18, 24).
        bias: of the convolutions.

    Raises:
        ValueError: sizes below 1, an even ``kernel_size``, no dilations, or an input that is not
            ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int,
        kernel_size: int = 3,
        dilations: Sequence[int] = (1,),
        bias: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, scale) < 1 or not dilations or min(dilations) < 1:
            raise ValueError(
                "dense_upsampling_conv needs in_channels, out_channels, scale and dilations >= 1, received "
                f"{in_channels}, {out_channels}, {scale} and {tuple(dilations)}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"dense_upsampling_conv needs an odd kernel_size, received {kernel_size}")
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        self.convs = nn.ModuleList(
            nn.Conv2d(
                in_channels, out_channels * scale**2, kernel_size, padding=d * (kernel_size // 2), dilation=d, bias=bias
            )
            for d in dilations
        )

    def scores_in_cells(self, x: Tensor) -> Tensor:
        """``T``, the scores before the shuffle, ``(N, L d^2, H, W)``."""
        first, *others = self.convs
        return sum((conv(x) for conv in others), first(x))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"dense_upsampling_conv was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        return F.pixel_shuffle(self.scores_in_cells(x), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, out_channels={self.out_channels}"


def labels_in_cells(labels: Tensor, scale: int) -> Tensor:
    """Labels ``(N, d H, d W)`` to ``(N, d^2, H, W)``, in the order of DUC's channels.

    ``F.cross_entropy(scores.unflatten(1, (L, d * d)), labels_in_cells(y, d))`` then equals the loss on shuffled scores,
    without the shuffle.

    Raises:
        ValueError: a size that ``scale`` does not divide.
    """
    return space_to_depth(labels.unsqueeze(1), scale)
