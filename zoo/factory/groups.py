"""How many groups a swapped GroupNorm gets where its default does not divide the channels."""

from __future__ import annotations


def choose_groups(channels: int, wanted: int) -> int:
    """Largest divisor of ``channels`` that is at most ``wanted`` and leaves two channels or more in a group.

    Two at least, because one channel a group is InstanceNorm, which is another method. A prime number of
    channels becomes one group (LayerNorm over all channels).

    >>> [choose_groups(c, 32) for c in (64, 40, 24, 16, 7)]
    [32, 20, 12, 8, 1]
    """
    return max((g for g in range(1, min(wanted, channels) + 1) if channels % g == 0 and channels // g >= 2), default=1)
