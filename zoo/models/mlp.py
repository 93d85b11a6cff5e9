"""A fully connected network, for data so small that a convolution would be no faster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(num_classes: int = 10, in_features: int = 64, hidden: Sequence[int] = (256, 256)) -> nn.Sequential:
    """``(N, *)`` flattened to ``(N, in_features)``, ReLU layers of the ``hidden`` widths, ``(N, num_classes)`` logits.

    Raises:
        ValueError: a width below 1.
    """
    widths = [in_features, *hidden]
    if min([*widths, num_classes]) < 1:
        raise ValueError(f"every width is at least 1, received {in_features}, {list(hidden)}, {num_classes}")
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
