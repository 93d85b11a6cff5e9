"""Rearrangements between space and channels, in both orders that papers and libraries use."""

from __future__ import annotations

from torch import Tensor

ORDERS = ("torch", "phase")


def space_to_depth(x: Tensor, r: int, order: str = "torch") -> Tensor:
    """``(N, C, r H, r W) -> (N, C r^2, H, W)``: every r x r cell becomes channels.

    Args:
        x: the map.
        r: side of a cell.
        order: ``"torch"``: channel ``c r^2 + dy r + dx`` as ``F.pixel_unshuffle``; ``"phase"``: channel
            ``(dy r + dx) C + c``, as TensorFlow's ``space_to_depth``, ESPCN's text and i-RevNet.

    Raises:
        ValueError: another order, ``r`` below 1, or a size that r does not divide.
    """
    _check(order, r)
    n, c, h, w = x.shape
    if h % r or w % r:
        raise ValueError(f"space_to_depth needs height and width divisible by {r}, received {tuple(x.shape)}")
    cells = x.reshape(n, c, h // r, r, w // r, r)
    axes = (0, 1, 3, 5, 2, 4) if order == "torch" else (0, 3, 5, 1, 2, 4)
    return cells.permute(axes).reshape(n, c * r * r, h // r, w // r)


def depth_to_space(x: Tensor, r: int, order: str = "torch") -> Tensor:
    """``(N, C r^2, H, W) -> (N, C, r H, r W)``: the inverse of :func:`space_to_depth` with the same order.

    Raises:
        ValueError: another order, ``r`` below 1, or channels that r^2 does not divide.
    """
    _check(order, r)
    n, c, h, w = x.shape
    if c % (r * r):
        raise ValueError(f"depth_to_space needs channels divisible by {r * r}, received {tuple(x.shape)}")
    c //= r * r
    cells = x.reshape(n, c, r, r, h, w) if order == "torch" else x.reshape(n, r, r, c, h, w)
    axes = (0, 1, 4, 2, 5, 3) if order == "torch" else (0, 3, 4, 1, 5, 2)
    return cells.permute(axes).reshape(n, c, h * r, w * r)


def _check(order: str, r: int) -> None:
    if order not in ORDERS:
        raise ValueError(f"order is one of {', '.join(ORDERS)}, received {order!r}")
    if r < 1:
        raise ValueError(f"a cell needs r >= 1, received {r}")
