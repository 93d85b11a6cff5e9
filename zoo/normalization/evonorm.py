"""EvoNorm-S0 and EvoNorm-B0: norm and activation in one searched expression (Liu et al., arXiv 2004.02967)."""

from __future__ import annotations

from timm.layers import EvoNorm2dB0, EvoNorm2dS0


class EvoNormS0(EvoNorm2dS0):
    r"""Group-wise form, the same in training and evaluation; timm's class with arguments that are checked.

    .. math:: y = \gamma\, \frac{x\, \sigma(v x)}{\sqrt{s^2_{h,w,c/g}(x) + \epsilon}} + \beta

    with the biased variance over the positions and channels of a group of one sample.

    Args:
        num_channels: C.
        groups: of neighbouring channels; a layer with fewer channels has one channel a group.
        eps: inside the root.

    Shape: ``(N, C, H, W)`` to the same.

    Raises:
        ValueError: groups that do not divide the channels.
    """

    def __init__(self, num_channels: int, groups: int = 32, eps: float = 1e-5) -> None:
        groups = min(groups, num_channels)
        if groups < 1 or num_channels % groups:
            raise ValueError(f"evonorm_s0: {num_channels} channels do not divide into {groups} groups")
        super().__init__(num_channels, groups=groups, eps=eps)


class EvoNormB0(EvoNorm2dB0):
    r"""Batch form: the larger of a batch deviation and a shifted instance deviation; timm's class, arguments checked.

    .. math:: y = \gamma\, \frac{x}{\max\{\sqrt{s^2_{b,h,w}(x) + \epsilon},\; v x + \sqrt{s^2_{h,w}(x) + \epsilon}\}} + \beta

    Evaluation takes the running batch variance; the instance deviation is always that of the sample.

    Args:
        num_channels: C.
        momentum: share of the new batch variance (unbiased) in the running one.
        eps: inside both roots.

    Shape: ``(N, C, H, W)`` to the same.

    Raises:
        ValueError: no channel.
    """

    def __init__(self, num_channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        if num_channels < 1:
            raise ValueError(f"evonorm_b0 needs at least one channel, received {num_channels}")
        super().__init__(num_channels, momentum=momentum, eps=eps)
