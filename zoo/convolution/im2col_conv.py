"""Convolution as matrix products: im2col, im2row, shifted products (1709.03395), indirect convolution (1907.02129)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """``floor((n + 2 p - d (k - 1) - 1) / s) + 1`` on both sides."""
    h, w = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return h, w


def conv_im2col(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """Patches as columns, channel slowest: ``W (O, C k k) @ P (C k k, L)``. P is k^2 times as large as the input."""
    o, _, kh, kw = weight.shape
    patches = F.unfold(x, (kh, kw), dilation, padding, stride)  # (N, C k k, L), rows c k^2 + i k + j
    patches = patches.unflatten(1, (groups, -1))
    return (weight.view(groups, o // groups, -1) @ patches).flatten(1, 2)


def conv_im2row(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """Patches as rows, channel fastest: a strided view of the channels-last input, copied dense for one product."""
    o, cg, kh, kw = weight.shape
    ho, wo = output_size((x.shape[2], x.shape[3]), (kh, kw), stride, padding, dilation)
    rows = F.pad(x, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1).contiguous()
    sn, sh, sw, sc = rows.stride()
    # A view: position, tap, channel all step through the same memory.
    view = rows.as_strided(
        (x.shape[0], ho, wo, kh, kw, x.shape[1]),
        (sn, sh * stride[0], sw * stride[1], sh * dilation[0], sw * dilation[1], sc),
    )
    patches = view.unflatten(-1, (groups, cg)).permute(0, 5, 1, 2, 3, 4, 6)  # (N, G, Ho, Wo, kh, kw, Cg)
    patches = patches.reshape(x.shape[0], groups, ho * wo, kh * kw * cg)
    taps = (
        weight.view(groups, o // groups, cg, kh, kw).permute(0, 3, 4, 2, 1).reshape(groups, kh * kw * cg, o // groups)
    )
    return (patches @ taps).permute(0, 1, 3, 2).flatten(1, 2)


def conv_shifted(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """kn2row: one 1 x 1 product for each tap, added up where it belongs; the patch matrix never exists."""
    o, cg, kh, kw = weight.shape
    n = x.shape[0]
    ho, wo = output_size((x.shape[2], x.shape[3]), (kh, kw), stride, padding, dilation)
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    taps = weight.view(groups, o // groups, cg, kh, kw)
    total: Tensor | None = None
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            shifted = padded[
                :,
                :,
                top : top + (ho - 1) * stride[0] + 1 : stride[0],
                left : left + (wo - 1) * stride[1] + 1 : stride[1],
            ].reshape(n * groups, cg, ho * wo)
            tap = taps[..., i, j].expand(n, -1, -1, -1).reshape(n * groups, o // groups, cg)
            # The product is accumulated by the matrix routine itself (beta = 1), not in a second pass.
            total = torch.bmm(tap, shifted) if total is None else torch.baddbmm(total, tap, shifted)
    assert total is not None
    return total.view(n, o, ho * wo)


def indirection_buffer(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Row numbers ``(L, kh kw)`` into the ``H W`` pixels of an image; ``H W`` itself is the shared row of zeros.

    Depends on geometry alone, so that it is made once and holds one number a tap instead of C values.
    """
    ho, wo = output_size(size, kernel, stride, padding, dilation)

    def axis(n: int, out: int, k: int, s: int, p: int, d: int) -> Tensor:
        place = torch.arange(out)[:, None] * s - p + torch.arange(k)[None] * d
        return torch.where((place >= 0) & (place < n), place, -1)

    rows = axis(size[0], ho, kernel[0], stride[0], padding[0], dilation[0])[:, None, :, None]
    cols = axis(size[1], wo, kernel[1], stride[1], padding[1], dilation[1])[None, :, None, :]
    index = torch.where((rows >= 0) & (cols >= 0), rows * size[1] + cols, size[0] * size[1])
    return index.reshape(ho * wo, -1)


def conv_indirect(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """Indirect convolution: rows of pixels are read through a table of addresses.

    A model of the algorithm: native kernels read through the pointers inside the product, whereas ``index_select``
    copies the rows of one tap at a time.
    """
    o, cg, kh, kw = weight.shape
    n, c, h, w = x.shape
    index = indirection_buffer((h, w), (kh, kw), stride, padding, dilation).to(x.device)
    pixels = torch.cat([x.flatten(2).mT, x.new_zeros(n, 1, c)], 1)  # (N, H W + 1, C), the last row for the padding
    taps = weight.view(groups, o // groups, cg, kh * kw)
    total: Tensor | None = None
    for t in range(kh * kw):
        rows = pixels.index_select(1, index[:, t]).view(n, -1, groups, cg)
        term = torch.einsum("nlgc,goc->ngol", rows, taps[..., t])
        total = term if total is None else total + term
    assert total is not None
    return total.flatten(1, 2)


ALGORITHMS: dict[str, Callable[[Tensor, Tensor, Pair, Pair, Pair, int], Tensor]] = {
    "im2col": conv_im2col,
    "im2row": conv_im2row,
    "shifted": conv_shifted,
    "indirect": conv_indirect,
}


class Im2colConv2d(nn.Conv2d):
    r"""A convolution computed by a named algorithm; parameters and results are those of ``nn.Conv2d``.

    .. math:: Y = W P, \qquad W \in \mathbb R^{O \times C k^2}, \qquad P \in \mathbb R^{C k^2 \times L}, \qquad L = H' W'

    ``"im2col"`` builds P, ``"im2row"`` its transpose with the channel fastest, ``"shifted"`` adds k^2 products of
    1 x 1 kernels (low-memory GEMM), ``"indirect"`` reads pixels through a table. All differentiable; meant for
    reading and measuring: the native convolution is faster.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d`` (padding in numbers, of zeros).
        algorithm: one of the four.

    Raises:
        ValueError: an unknown algorithm, padding by name, or an input that is not ``(N, C, H, W)`` with room for the
            kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        algorithm: str = "im2col",
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"im2col_conv takes algorithm {', '.join(ALGORITHMS)}, received {algorithm!r}")
        if isinstance(padding, str):
            raise ValueError(f"im2col_conv takes padding in numbers, received {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.algorithm = algorithm

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"im2col_conv was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}")
        kernel, stride, padding, dilation = (
            (int(v[0]), int(v[1])) for v in (self.kernel_size, self.stride, self.padding, self.dilation)
        )
        size = output_size((x.shape[2], x.shape[3]), kernel, stride, padding, dilation)
        if min(size) < 1:
            raise ValueError(f"im2col_conv: a kernel of {kernel} does not fit into {tuple(x.shape)}")
        y = ALGORITHMS[self.algorithm](x, self.weight, stride, padding, dilation, self.groups).unflatten(-1, size)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, algorithm={self.algorithm!r}"
