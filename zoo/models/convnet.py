"""A plain convolutional network for studies on images of 32 x 32 pixels that have to run on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Three 3 x 3 convolutions of stride 2 with BatchNorm and ReLU, then one linear layer over all positions.

    About 2.6 M multiply-adds an image of 32 x 32 pixels at the default width; without pooling, so that it can memorise
    a few thousand labels.

    Args:
        width: channels after the first convolution; they double twice.
        size: side of the images; the linear layer depends on it.
        num_classes: outputs.
        in_chans: input channels.

    Shape: ``(N, in_chans, size, size) -> (N, num_classes)``

    Raises:
        ValueError: a size below 1, or a side that 8 does not divide.
    """

    def __init__(self, width: int = 32, size: int = 32, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        if min(width, num_classes, in_chans) < 1 or size < 8 or size % 8:
            raise ValueError(
                f"width, num_classes and in_chans must be at least 1 and size a multiple of 8; received {width}, "
                f"{num_classes}, {in_chans}, {size}"
            )
        self.num_classes, self.num_features = num_classes, 4 * width * (size // 8) ** 2
        channels = [in_chans, width, 2 * width, 4 * width]
        for i in range(3):
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels[i], channels[i + 1], 3, 2, 1, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
            self.add_module(f"act{i + 1}", nn.ReLU(inplace=True))
        self.fc = nn.Linear(self.num_features, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        for i in (1, 2, 3):
            x = getattr(self, f"act{i}")(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(x, 1)
        return x if pre_logits else self.fc(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def small_convnet(**arguments: int) -> SmallConvNet:
    """See :class:`SmallConvNet`."""
    return SmallConvNet(**arguments)
