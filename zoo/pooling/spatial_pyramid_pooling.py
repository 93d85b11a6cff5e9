"""Spatial pyramid pooling: a vector of fixed length from a map of any size (He et al., arXiv 1406.4729)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialPyramidPooling(nn.Module):
    r"""Maxima over pyramids of bins, concatenated.

    .. math:: z_{n,i,j,c} = \max_{\lfloor i H / n \rfloor \le h < \lceil (i + 1) H / n \rceil,\;
              \lfloor j W / n \rfloor \le w < \lceil (j + 1) W / n \rceil} x_{c,h,w}, \qquad 0 \le i, j < n

    for each level n. These bins always number n^2 and cover the map; the paper's rule (window ``ceil(a / n)``, stride
    ``floor(a / n)``) agrees with them where it yields n bins without a rest, and gives the wrong number elsewhere.

    ``(N, C, H, W) -> (N, C sum n^2)``, level after level, in each ``(C, n, n)`` flattened. A map smaller than a level
    repeats values: bins then overlap.

    Args:
        in_channels: C.
        levels: bins along each side (paper: 6, 3, 2, 1 for 50 bins).
        mode: ``"max"`` (paper) or ``"avg"``.

    Attributes:
        out_features: ``C sum n^2``.

    Raises:
        ValueError: no level, a level below 1, another mode, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(self, in_channels: int, levels: Sequence[int] = (6, 3, 2, 1), mode: str = "max") -> None:
        super().__init__()
        if in_channels < 1 or not levels or min(levels) < 1:
            raise ValueError(
                "spatial_pyramid_pooling needs in_channels >= 1 and levels >= 1, received "
                f"{in_channels} and {tuple(levels)}"
            )
        if mode not in ("max", "avg"):
            raise ValueError(f"spatial_pyramid_pooling takes mode 'max' or 'avg', received {mode!r}")
        self.in_channels, self.levels, self.mode = in_channels, tuple(levels), mode
        self.out_features = in_channels * sum(n * n for n in self.levels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"spatial_pyramid_pooling was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        pool = F.adaptive_max_pool2d if self.mode == "max" else F.adaptive_avg_pool2d
        done: dict[int, Tensor] = {}
        for n in sorted(set(self.levels), reverse=True):
            # Bins nest where both divide: the coarse level is read off the finer one, not off the whole map again.
            finer = next((m for m in done if m % n == 0 and x.shape[2] % m == 0 and x.shape[3] % m == 0), None)
            done[n] = pool(x if finer is None else done[finer], n)
        return torch.cat([done[n].flatten(1) for n in self.levels], 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, levels={self.levels}, mode={self.mode!r}"
