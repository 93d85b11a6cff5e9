"""Layer normalization over the channels of ``(N, C, *)`` with any number of positions (Ba et al., arXiv 1607.06450)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelLayerNorm(nn.LayerNorm):
    r"""Standardise every position over its channels: :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    The sense that transformers and ConvNeXt give to the name, for channels at dim 1; timm's ``LayerNorm2d`` is the same
    for 4-d input. Biased variance. For statistics over (C, H, W) take group normalization with one group.

    Args:
        num_channels: C of the input ``(N, C)`` or ``(N, C, *)``.
        eps: inside the root.
        affine: gain and shift per channel.

    Raises:
        ValueError: an input with other channels.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(num_channels, eps=eps, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != self.normalized_shape[0]:
            raise ValueError(f"layer_norm was made for {self.normalized_shape[0]} channels, received {tuple(x.shape)}")
        y = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)
