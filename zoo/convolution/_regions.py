"""Each position times the filter of its region: positions sorted by region, one matrix product a region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def _columns(x: Tensor, filters: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    """Patches of one image as columns ``(C kh kw, L)``; the image itself for a 1 x 1 kernel."""
    kernel = list(filters.shape[-2:])
    if kernel == [1, 1] and stride == [1, 1] and padding == [0, 0]:
        return x.flatten(1)
    return F.unfold(x[None], tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))[0]


def _sorted(choice: Tensor, regions: int) -> tuple[Tensor, Tensor, list[tuple[int, slice]]]:
    """Positions ordered by region, the way back, and where each region that occurs stands in that order."""
    flat = choice.flatten()
    ends = torch.bincount(flat, minlength=regions).cumsum(0).tolist()
    spans = zip([0, *ends], ends, strict=False)
    order = flat.argsort()
    # Reading by index is several times as fast as writing by index.
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return order, back, [(t, slice(a, b)) for t, (a, b) in enumerate(spans) if b > a]


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
    n, m, o = filters.shape[:3]
    y = x.new_empty(n, o, *choice.shape[1:])
    for i in range(n):
        order, back, spans = _sorted(choice[i], m)
        columns = _columns(x[i], filters, stride, padding, dilation).index_select(1, order)
        weights = filters[i].flatten(2)
        out = x.new_empty(o, columns.shape[1])
        for t, span in spans:
            out[:, span] = weights[t] @ columns[:, span]
        y[i] = out.index_select(1, back).view(y.shape[1:])
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
    grad_x, grad_filters = torch.empty_like(x), torch.zeros_like(filters)
    grad_soft = x.new_zeros(n, m, *choice.shape[1:])
    kernel = list(filters.shape[-2:])
    for i, g in enumerate(_maps(grad)):
        order, back, spans = _sorted(choice[i], m)
        columns = _columns(x[i], filters, stride, padding, dilation)
        weights = filters[i].flatten(2)
        sorted_columns, sorted_g = columns.index_select(1, order), g.index_select(1, order)
        for t, span in spans:
            grad_filters[i, t] = (sorted_g[:, span] @ sorted_columns[:, span].mT).view(filters.shape[2:])
            sorted_columns[:, span] = weights[t].mT @ sorted_g[:, span]  # this region's patches are read
        patches = sorted_columns.index_select(1, back)
        if kernel == [1, 1] and patches.shape[1] == x[i, 0].numel():
            grad_x[i] = patches.view(x.shape[1:])
        else:
            grad_x[i] = F.fold(
                patches[None], tuple(x.shape[2:]), tuple(kernel), tuple(dilation), tuple(padding), tuple(stride)
            )[0]
        if guide:
            for t in range(m):  # one region's response at a time: it stays in cache
                grad_soft[i, t] = (weights[t] @ columns).mul_(g).sum(0).view(choice.shape[1:])
    return grad_x, grad_filters, grad_soft


def _maps(grad: Tensor) -> Iterator[Tensor]:
    """Each sample's gradient as ``(O, L)``."""
    yield from (g.flatten(1) for g in grad)


@region_product_backward.register_fake
def _(grad: Tensor, x: Tensor, filters: Tensor, choice: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    soft = x.new_empty(x.shape[0], filters.shape[1], *choice.shape[1:])
    return torch.empty_like(x), torch.empty_like(filters), soft


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
