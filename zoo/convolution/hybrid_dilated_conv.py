"""Hybrid dilated convolution: dilation rates without holes in the receptive field (Wang et al., arXiv 1702.08502)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import torch
from torch import Tensor, nn


def largest_gap(rates: Sequence[int]) -> int:
    r"""Largest distance ``M_2`` between two non-zero taps that the rates leave, by the paper's recursion.

    .. math:: M_i = \max[M_{i+1} - 2 r_i,\; 2 r_i - M_{i+1},\; r_i], \qquad M_n = r_n

    Equation (2). A schedule is good when ``M_2 <= kernel_size`` and the rates have no common factor. The rule is a
    design heuristic for kernels of three taps; :func:`coverage` counts the holes themselves.

    Raises:
        ValueError: no rates, or one below 1.
    """
    _check_rates(rates)
    gap = rates[-1]
    for r in reversed(rates[1:-1]):
        gap = max(gap - 2 * r, 2 * r - gap, r)
    return gap


def follows_rule(rates: Sequence[int], kernel_size: int = 3) -> bool:
    """Whether the paper accepts the rates: ``M_2 <= kernel_size`` and no common factor above 1."""
    return largest_gap(rates) <= kernel_size and math.gcd(*rates) == 1


def coverage(rates: Sequence[int], kernel_size: int = 3) -> Tensor:
    """How many paths lead from each input offset to one output along one axis, by brute force.

    Returns:
        counts ``(F,)`` over the receptive field ``F = 1 + (kernel_size - 1) sum(rates)``; zeros are holes.
    """
    _check_rates(rates)
    reach = (kernel_size - 1) * sum(rates)
    counts = torch.zeros(reach + 1, dtype=torch.int64)
    counts[0] = 1
    for r in rates:
        counts = torch.stack([counts.roll(t * r) for t in range(kernel_size)]).sum(0)  # never wraps: reach is the sum
    return counts


def set_dilations(module: nn.Module, rates: Sequence[int]) -> list[str]:
    """Give the spatial convolutions of ``module`` the rates in turn, with the padding that keeps sizes; in place.

    Convolutions of kernel 1 or stride above 1 are left alone.

    Args:
        module: for example the last stage of a ResNet built with ``output_stride=8``.
        rates: repeated over the convolutions in order.

    Returns:
        names of the changed convolutions.

    Raises:
        ValueError: bad rates, or a module without such a convolution.
    """
    _check_rates(rates)
    wheel, changed = cycle(rates), []
    for name, conv in module.named_modules():
        if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1 and max(conv.stride) == 1:
            r = next(wheel)
            conv.dilation = (r, r)
            # Both must change: dilation alone shrinks the map.
            conv.padding = (r * (conv.kernel_size[0] // 2), r * (conv.kernel_size[1] // 2))
            changed.append(name)
    if not changed:
        raise ValueError("hybrid_dilated_conv found no convolution of stride 1 with a kernel above 1 to dilate")
    return changed


class HybridDilatedConv(nn.Module):
    """HDC group: a convolution, BatchNorm and ReLU for each rate, ``(N, C, H, W)`` to the same size.

    Args:
        in_channels: C.
        rates: dilations in turn (paper: 1, 2, 5 as the sawtooth that leaves no holes).
        kernel_size: odd.
        out_channels: by default C.
        norm_layer: normalisation, called with the number of channels.
        strict: refuse rates that break the paper's rule.

    Raises:
        ValueError: rates that leave holes (with ``strict``), an even ``kernel_size``, or an input that is not
            ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int] = (1, 2, 5),
        kernel_size: int = 3,
        out_channels: int | None = None,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
        strict: bool = True,
    ) -> None:
        super().__init__()
        _check_rates(rates)
        if in_channels < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"hybrid_dilated_conv needs in_channels >= 1 and an odd kernel_size, received {in_channels}, "
                f"{kernel_size}"
            )
        if strict and not follows_rule(rates, kernel_size):
            raise ValueError(
                f"hybrid_dilated_conv: rates {tuple(rates)} leave gaps (M_2 = {largest_gap(rates)} against a kernel of "
                f"{kernel_size}, greatest common factor {math.gcd(*rates)}); use rates such as (1, 2, 5) or "
                "strict=False"
            )
        self.in_channels, self.rates = in_channels, tuple(rates)
        self.out_channels = out_channels or in_channels
        layers: list[nn.Module] = []
        for i, r in enumerate(self.rates):
            before = in_channels if i == 0 else self.out_channels
            padding = r * (kernel_size // 2)
            conv = nn.Conv2d(before, self.out_channels, kernel_size, padding=padding, dilation=r, bias=False)
            layers += [conv, norm_layer(self.out_channels), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"hybrid_dilated_conv was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        return self.layers(x)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, rates={self.rates}"


def _check_rates(rates: Sequence[int]) -> None:
    if not rates or min(rates) < 1:
        raise ValueError(f"hybrid_dilated_conv needs one or more rates >= 1, received {tuple(rates)}")
