"""Pyramid pooling module of PSPNet: global context at several scales beside the map (Zhao et al., arXiv 1612.01105)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PyramidPoolingModule(nn.Module):
    r"""Average pooling to several grids, each reduced, enlarged again and concatenated with the input.

    .. math:: \mathrm{out} = [x, \mathrm{up}(\mathrm{ReLU}(\mathrm{BN}(W_b \mathrm{pool}_b(x))))_{b \in \text{bins}}]

    ``(N, C, H, W) -> (N, C + len(bins) * reduction, H, W)``, the input first. A head of a 3 x 3 convolution to 512
    channels, BatchNorm, ReLU, Dropout2d 0.1 and a 1 x 1 convolution follows in the paper's network.

    Args:
        in_channels: C.
        bins: sides of the grids (paper: 1, 2, 3, 6). A map smaller than a grid is repeated into it.
        reduction: channels of each branch; by default ``in_channels // len(bins)`` (paper: C / 4).
        align_corners: of the bilinear enlargement; True in the authors' code, which fits sizes of ``8 k + 1``.
        norm_layer: normalisation, called with ``reduction``.

    Attributes:
        out_channels: channels of the output; 2 C with the defaults.

    Raises:
        ValueError: no bins, a size below 1, an input that is not ``(N, in_channels, H, W)``, or a batch of one in
            training with a grid of one bin (BatchNorm then has a single value).
    """

    def __init__(
        self,
        in_channels: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        reduction: int | None = None,
        align_corners: bool = True,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        channels = reduction if reduction is not None else in_channels // max(len(bins), 1)
        if not bins or min(bins) < 1 or channels < 1:
            raise ValueError(
                "pyramid_pooling_module needs bins >= 1 and at least one channel a branch, received bins "
                f"{tuple(bins)} and {channels} of {in_channels} channels"
            )
        self.in_channels, self.bins, self.align_corners = in_channels, tuple(bins), align_corners
        self.out_channels = in_channels + len(self.bins) * channels
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), norm_layer(channels), nn.ReLU(inplace=True))
            for _ in self.bins
        )
        self._batch_statistics = issubclass(norm_layer, nn.BatchNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"pyramid_pooling_module was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        if self.training and self._batch_statistics and x.shape[0] == 1 and 1 in self.bins:
            raise ValueError(
                "pyramid_pooling_module with a grid of one bin needs a batch of 2 or more in training: BatchNorm gets "
                f"one value a channel from {tuple(x.shape)}; use a larger batch, bins without 1, or another norm_layer"
            )
        done: dict[int, Tensor] = {}
        for b in sorted(set(self.bins), reverse=True):
            # Where both grids divide the map, means of means are means: the map is read once.
            finer = next((m for m in done if m % b == 0 and x.shape[2] % m == 0 and x.shape[3] % m == 0), None)
            done[b] = F.adaptive_avg_pool2d(x if finer is None else done[finer], b)
        maps = [x]
        for b, branch in zip(self.bins, self.branches, strict=True):
            size = x.shape[2:]
            maps.append(F.interpolate(branch(done[b]), size, mode="bilinear", align_corners=self.align_corners))
        return torch.cat(maps, 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, bins={self.bins}, out_channels={self.out_channels}"
