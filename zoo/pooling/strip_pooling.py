"""Strip pooling: averages over whole rows and columns as context (Hou et al., arXiv 2003.13328)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv_norm(in_channels: int, out_channels: int, kernel: tuple[int, int], norm: type[nn.Module]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, padding=padding, bias=False), norm(out_channels))


def _check(name: str, in_channels: int, x: Tensor) -> None:
    if x.dim() != 4 or x.shape[1] != in_channels or 0 in x.shape[2:]:
        raise ValueError(f"{name} was made for (N, {in_channels}, H, W), received {tuple(x.shape)}")


class StripPooling(nn.Module):
    r"""SPM: a gate for every position from the mean of its row and the mean of its column.

    .. math:: y^h_{c,i} = \tfrac1W \sum_j x_{c,i,j}, \qquad y^v_{c,j} = \tfrac1H \sum_i x_{c,i,j}

    .. math:: z = \sigma\bigl(W\, \mathrm{ReLU}(\mathrm{BN}(K_{3 \times 1} * y^h)_i
              + \mathrm{BN}(K_{1 \times 3} * y^v)_j) + b\bigr),
              \qquad \text{out} = x \odot z

    ``(N, C, H, W)`` to the same shape. The authors put it after the 3 x 3 convolution, BatchNorm and ReLU of a
    bottleneck, in the last block of every stage and all blocks of the last.

    Args:
        in_channels: C.
        norm_layer: normalisation of the strips, called with C.

    Raises:
        ValueError: ``in_channels`` below 1, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(self, in_channels: int, norm_layer: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"strip_pooling needs in_channels >= 1, received {in_channels}")
        self.in_channels = self.out_channels = in_channels
        self.rows = _conv_norm(in_channels, in_channels, (3, 1), norm_layer)
        self.columns = _conv_norm(in_channels, in_channels, (1, 3), norm_layer)
        self.gate = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        _check("strip_pooling", self.in_channels, x)
        rows = self.rows(x.mean(3, keepdim=True))  # (N, C, H, 1)
        columns = self.columns(x.mean(2, keepdim=True))  # (N, C, 1, W)
        return x * torch.sigmoid(self.gate(F.relu(rows + columns)))


def add_strip_pooling(model: nn.Module, norm_layer: type[nn.Module] = nn.BatchNorm2d) -> list[str]:
    """Put a :class:`StripPooling` where the paper's network has one into a ResNet of timm, in place.

    The blocks are the last of each stage and all of the last stage. In a bottleneck it follows the 3 x 3 convolution with
    its BatchNorm and ReLU (``act2``), as in the paper. A basic block has no narrow part; there it follows the first
    convolution's activation (``act1``), before the second convolution, which is a choice of this package.

    Args:
        model: anything with ``layer1`` to ``layer4`` of timm's ``Bottleneck`` or ``BasicBlock``: load weights first, they
            keep their names.
        norm_layer: of the strips.

    Returns:
        The paths of the new modules, 6 for ResNet-50, 101 and 152, 5 for ResNet-18, 6 for ResNet-34.

    Raises:
        ValueError: another network, or one that has them already; nothing has changed then.
    """
    stages = [getattr(model, f"layer{i}", None) for i in (1, 2, 3, 4)]
    if not all(isinstance(stage, nn.Sequential) and len(stage) > 0 for stage in stages):
        raise ValueError(f"strip_pooling goes into a ResNet with layer1 to layer4, received {type(model).__name__}")
    places: list[tuple[str, nn.Module, str, int]] = []
    for number, stage in enumerate(stages, 1):
        assert isinstance(stage, nn.Sequential)
        for index, block in enumerate(stage):
            if number < 4 and index < len(stage) - 1:
                continue
            narrow = "2" if hasattr(block, "conv3") else "1"
            conv, act = getattr(block, f"conv{narrow}", None), getattr(block, f"act{narrow}", None)
            path = f"layer{number}.{index}.act{narrow}"
            if not isinstance(conv, nn.Conv2d) or not isinstance(act, nn.Module):
                raise ValueError(f"strip_pooling needs blocks of convolution and activation, received none at {path}")
            if any(isinstance(m, StripPooling) for m in block.modules()):
                raise ValueError(f"strip_pooling is in {path} already")
            places.append((path, block, f"act{narrow}", conv.out_channels))
    for _, block, name, channels in places:
        act, weight = getattr(block, name), next(block.parameters())
        strip = StripPooling(channels, norm_layer).to(weight.device, weight.dtype)
        setattr(block, name, nn.Sequential(act, strip).train(block.training))
    return [f"{path}.1" for path, *_ in places]


class MixedPooling(nn.Module):
    r"""MPM: pyramid pooling for near context and strip pooling for far context, in a residual block.

    Two 1 x 1 convolutions reduce C to C / 4 each. The first branch sums a 3 x 3 convolution at full size with those of
    two average-pooled maps, the second sums convolved row and column means; each ends in ReLU, 3 x 3 convolution,
    BatchNorm, ReLU. Both are concatenated, brought back to C and added: ``ReLU(x + out)``.

    Args:
        in_channels: C, at least 4 (the authors use 1024).
        pool_sizes: output sizes of the two pooled maps (authors' code: 20 and 12); a map smaller than that is
            repeated, not pooled.
        norm_layer: normalisation, called with the number of channels.

    Raises:
        ValueError: ``in_channels`` below 4, or an input that is not ``(N, in_channels, H, W)``.
    """

    def __init__(
        self, in_channels: int, pool_sizes: Sequence[int] = (20, 12), norm_layer: type[nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        if in_channels < 4:
            raise ValueError(f"mixed_pooling needs in_channels >= 4, received {in_channels}")
        self.in_channels = self.out_channels = in_channels
        self.pool_sizes = tuple(pool_sizes)
        c = in_channels // 4
        self.reduce_near = nn.Sequential(*_conv_norm(in_channels, c, (1, 1), norm_layer), nn.ReLU(inplace=True))
        self.reduce_far = nn.Sequential(*_conv_norm(in_channels, c, (1, 1), norm_layer), nn.ReLU(inplace=True))
        self.full = _conv_norm(c, c, (3, 3), norm_layer)
        self.pooled = nn.ModuleList(_conv_norm(c, c, (3, 3), norm_layer) for _ in self.pool_sizes)
        self.row = _conv_norm(c, c, (1, 3), norm_layer)  # along a map of one row: the means of columns
        self.column = _conv_norm(c, c, (3, 1), norm_layer)
        self.near = nn.Sequential(*_conv_norm(c, c, (3, 3), norm_layer), nn.ReLU(inplace=True))
        self.far = nn.Sequential(*_conv_norm(c, c, (3, 3), norm_layer), nn.ReLU(inplace=True))
        self.project = _conv_norm(2 * c, in_channels, (1, 1), norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        _check("mixed_pooling", self.in_channels, x)
        size = x.shape[2:]
        near = self.reduce_near(x)
        total = self.full(near)
        for bins, conv in zip(self.pool_sizes, self.pooled, strict=True):
            pooled = conv(F.adaptive_avg_pool2d(near, bins))
            total = total + F.interpolate(pooled, size, mode="bilinear", align_corners=False)
        far = self.reduce_far(x)
        # Each strip is 1 long on one side: interpolation there is a broadcast.
        strips = self.row(far.mean(2, keepdim=True)) + self.column(far.mean(3, keepdim=True))
        both = torch.cat([self.near(F.relu(total)), self.far(F.relu(strips))], 1)
        return F.relu(x + self.project(both))
