"""Each position times the filter of its region: positions sorted by region, one matrix product a region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Values of patches that are worked on at once: many small images together, a large one alone.
_AT_ONCE = 2**19


def dense(
    x: Tensor, filters: Tensor, choice: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """``sum_t choice_t (W_t * x)`` from all m responses, by one grouped convolution.

    Args:
        x: ``(N, C, H, W)``.
        filters: ``(N, m, O, C, kh, kw)``.
        choice: weights of the regions ``(N, m, H', W')``.

    Returns:
        ``(N, O, H', W')``.
    """
    n, m, o = filters.shape[:3]
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), filters.flatten(0, 2), None, stride, padding, dilation, n)
    return torch.einsum("nmhw,nmohw->nohw", choice, y.view(n, m, o, *y.shape[2:]))


class _Sorted(NamedTuple):
    """A few images with their P = n H' W' positions ordered by image, then by region. K = kh kw C."""

    patches: Tensor  # (P, K)
    weights: Tensor  # (n m, O, K)
    counts: list[int]  # positions of each of the n m regions
    order: Tensor  # (P,) position at each place of the order
    back: Tensor  # (P,) place of each position
    rows: Tensor  # (P kh kw,) row of the padded image that each part of a patch is
    padded: list[int]  # n, H + 2 ph, W + 2 pw, C


def _rows(t: Tensor) -> Tensor:
    """``(n, C, H, W)`` as one row of C values a position."""
    return t.movedim(1, -1).reshape(-1, t.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The way back from :func:`_rows`, as a view."""
    return rows.view(like.shape[0], *like.shape[2:], -1).movedim(-1, 1)


def _sorted(
    x: Tensor, filters: Tensor, choice: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> _Sorted:
    n, m = filters.shape[:2]
    (kh, kw), (h, w), (ph, pw) = filters.shape[-2:], choice.shape[1:], padding

    def count(size: int, step: int) -> Tensor:
        return torch.arange(0, size * step, step, device=x.device)

    region = (choice.flatten(1) + count(n, m)[:, None]).flatten()
    order = region.argsort()
    # Reading by index is several times as fast as writing by index.
    back = torch.empty_like(order).scatter_(0, order, count(len(order), 1))
    image = F.pad(x.movedim(1, -1), (0, 0, pw, pw, ph, ph))
    height, width = image.shape[1:3]
    corner = count(n, height * width)[:, None, None] + count(h, stride[0] * width)[:, None] + count(w, stride[1])
    tap = count(kh, dilation[0] * width)[:, None] + count(kw, dilation[1])
    index = (corner.flatten()[order][:, None] + tap.flatten()).flatten()
    return _Sorted(
        image.reshape(n * height * width, -1).index_select(0, index).view(len(order), -1),
        filters.flatten(0, 1).movedim(2, -1).flatten(2),
        region.bincount(minlength=n * m).tolist(),
        order,
        back,
        index,
        list(image.shape),
    )


def _parts(x: Tensor, filters: Tensor, choice: Tensor) -> Iterator[slice]:
    """Images in groups whose patches fit the cache."""
    step = max(1, _AT_ONCE // max(1, choice.shape[1:].numel() * filters.shape[3:].numel()))
    yield from (slice(i, i + step) for i in range(0, len(x), step))


@torch.library.custom_op("zoo::region_product", mutates_args=())
def region_product(
    x: Tensor,
    filters: Tensor,
    soft: Tensor,
    choice: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    r"""``Y_p = W_{choice(p)} * X_p``: the work of one convolution, whatever the number of regions.

    Args:
        x, filters, stride, padding, dilation: as :func:`dense`.
        soft: ``(N, m, H', W')``; has no part in the value, and in the gradient stands for the choice.
        choice: region of each position, ``(N, H', W')``, integers.
    """
    y = x.new_empty(len(x), filters.shape[2], *choice.shape[1:])
    for part in _parts(x, filters, choice):
        s = _sorted(x[part], filters[part], choice[part], stride, padding, dilation)
        out = x.new_empty(len(s.order), y.shape[1])
        for w, patches, o in zip(s.weights, s.patches.split(s.counts), out.split(s.counts), strict=True):
            torch.mm(patches, w.mT, out=o)
        y[part] = _maps(out.index_select(0, s.back), y[part])
    return y


@region_product.register_fake
def _(x: Tensor, filters: Tensor, soft: Tensor, choice: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], filters.shape[2], *choice.shape[1:])


@torch.library.custom_op("zoo::region_product_backward", mutates_args=())
def region_product_backward(
    grad: Tensor,
    x: Tensor,
    filters: Tensor,
    choice: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    guide: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Gradients for ``x``, ``filters`` and, with ``guide``, ``soft``: :math:`\langle g_p, W_t * X_p \rangle` for all t.

    The first two have the work of one convolution each, the third that of m.
    """
    n, m = filters.shape[:2]
    (ph, pw), (h, w) = padding, x.shape[2:]
    grad_x, grad_filters = torch.empty_like(x), _in_patch_order(filters)
    grad_soft = x.new_zeros(n, m, *choice.shape[1:])
    for part in _parts(x, filters, choice):
        s = _sorted(x[part], filters[part], choice[part], stride, padding, dilation)
        g = _rows(grad[part]).index_select(0, s.order)
        if guide:
            grad_soft[part] = _maps(_responses(s, g, m).index_select(0, s.back), grad_soft[part])
        to_weights = grad_filters[part].view(s.weights.shape)
        pieces = zip(s.weights, to_weights, s.patches.split(s.counts), g.split(s.counts), strict=True)
        for weight, to_weight, patches, out in pieces:
            torch.mm(out.mT, patches, out=to_weight)
            torch.mm(out, weight, out=patches)  # this region's patches are read
        c = x.shape[1]
        image = x.new_zeros(s.padded).view(-1, c)
        image.scatter_add_(0, s.rows[:, None].expand(-1, c), s.patches.view(-1, c))
        grad_x[part] = image.view(s.padded).movedim(-1, 1)[:, :, ph : ph + h, pw : pw + w]
    return grad_x, grad_filters.movedim(-1, 3), grad_soft


def _in_patch_order(filters: Tensor) -> Tensor:
    """Memory for gradients of the filters, ``(N, m, O, kh, kw, C)``."""
    return torch.empty_like(filters.movedim(3, -1), memory_format=torch.contiguous_format)


def _responses(s: _Sorted, g: Tensor, m: int) -> Tensor:
    """Every region's response at each position of the order against the gradient there, ``(P, m)``."""
    found = []
    n, o = len(s.weights) // m, g.shape[1]
    block = max(1, _AT_ONCE // (m * o))
    for weights, patches, outs in zip(s.weights.view(n, m * o, -1), s.patches.chunk(n), g.chunk(n), strict=True):
        for p, out in zip(patches.split(block), outs.split(block), strict=True):
            found.append((p @ weights.mT).view(-1, m, o).mul_(out[:, None]).sum(2))
    return torch.cat(found)


@region_product_backward.register_fake
def _(grad: Tensor, x: Tensor, filters: Tensor, choice: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    soft = x.new_empty(x.shape[0], filters.shape[1], *choice.shape[1:])
    return torch.empty_like(x), _in_patch_order(filters).movedim(-1, 3), soft


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, filters, soft, choice, *geometry = inputs
    ctx.geometry = geometry
    ctx.save_for_backward(x, filters, soft, choice)


def _go_back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, filters, soft, choice = ctx.saved_tensors
    rest = (None,) * 4
    if torch.is_grad_enabled():  # create_graph=True: someone will differentiate again
        hard = F.one_hot(choice, soft.shape[1]).movedim(-1, 1).to(soft.dtype)
        y = dense(x, filters, hard - soft.detach() + soft, *ctx.geometry)
        wanted = [t for t, want in zip((x, filters, soft), ctx.needs_input_grad, strict=False) if want]
        found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
        return (*(next(found) if want else None for want in ctx.needs_input_grad[:3]), *rest)
    grads = region_product_backward(grad, x, filters, choice, *ctx.geometry, ctx.needs_input_grad[2])
    return (*grads, *rest)


region_product.register_autograd(_go_back, setup_context=_keep)
