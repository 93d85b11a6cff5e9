"""ResNets for small images (He et al., arXiv 1512.03385, section 4.2): 3 x 3 stem, three stages, 6n + 2 layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut: ``(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)``."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)) + shortcut)


class SmallResNet(nn.Module):
    """ResNet of ``6 * blocks + 2`` layers for images from 8 x 8 pixels on.

    Args:
        blocks: residual blocks a stage (n of the paper).
        num_classes: outputs; 0 leaves the pooled features.
        in_chans: input channels.
        width: channels of the first stage; they double twice.
        zero_init_last: start every residual branch at zero through its last gain (Goyal et al., arXiv 1706.02677).

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, blocks: int = 1, num_classes: int = 10, in_chans: int = 3, width: int = 16, zero_init_last: bool = True
    ) -> None:
        super().__init__()
        if blocks < 1 or in_chans < 1 or width < 1 or num_classes < 0:
            raise ValueError(
                f"blocks, in_chans, width must be at least 1 and num_classes at least 0; received {blocks}, "
                f"{in_chans}, {width}, {num_classes}"
            )
        self.num_classes, self.num_features = num_classes, 4 * width
        self.conv1 = nn.Conv2d(in_chans, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        stages, channels = [], width
        for i in range(3):
            layers = []
            for j in range(blocks):
                layers.append(BasicBlock(channels, width << i, 2 if i > 0 and j == 0 else 1))
                channels = width << i
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3 = stages
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_last and isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.global_pool(self.forward_features(x)), 1))


def resnet8(num_classes: int = 10, in_chans: int = 3, width: int = 16) -> SmallResNet:
    """ResNet-8: one block a stage."""
    return SmallResNet(1, num_classes, in_chans, width)


def resnet20(num_classes: int = 10, in_chans: int = 3, width: int = 16) -> SmallResNet:
    """ResNet-20: three blocks a stage, the smallest of the paper's CIFAR-10 table."""
    return SmallResNet(3, num_classes, in_chans, width)


#: Which layers change with the number of classes and input channels (timm's names), read by the weight loader.
resnet8.cfg = resnet20.cfg = {"first_conv": "conv1", "classifier": "fc"}  # type: ignore[attr-defined]
