r"""Slopes of every sample's loss and a weighted gradient from one pass, layer by layer.

For a layer that is linear in its own parameters, :math:`z_i = f(a_i; W)`, with :math:`b_i = \partial \ell_i / \partial z_i`

.. math:: \langle \nabla_W \ell_i, V \rangle = \langle b_i, f(a_i; V) \rangle, \qquad
          \textstyle\sum_i w_i \nabla_W \ell_i = \sum_i \partial_W f(a_i; W)^\top (w_i b_i),

so one forward and one backward pass to the activations serve both, for any directions and weights, where forward mode and a
weighted step need two forward passes and a full backward. It holds where no sample's loss depends on another sample, which
:func:`~zoo.noisy_labels._choice.suits` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.noisy_labels._layers import NORMS, Kept, by_row, slopes, weigh
from zoo.noisy_labels._nodes import CHANGED, Begin, Grouped, Unsuitable, Used, shares_sums
from zoo.noisy_labels.functional import Params
from zoo.numerics import wide


class Parts(NamedTuple):
    """A network of known layers, taken apart.

    Attributes:
        structure: what :func:`~zoo.noisy_labels._choice.suits` depends on: types and modes of all modules, which parameters are
            trained, shape and type of a sample.
        layers: those with trained parameters.
        params: the parameters that are trained, in the order of ``parameters()``.
        traceless: whether a pass leaves nothing behind: no buffer that it could change, no hook of a parameter.
    """

    structure: tuple[Any, ...]
    layers: list[nn.Module]
    params: list[nn.Parameter]
    traceless: bool


class Pass:
    """One pass of the network, of which slopes of all losses and weighted gradients can be had.

    Args:
        model: a network that :func:`~zoo.noisy_labels._choice.suits`.
        parts: of it.
        input, target: ``(N, *)`` and classes ``(N,)``.

    Attributes:
        output: logits ``(N, K)``; their graph has been used: an error if something is differentiated through them.
        losses: cross-entropy of every sample, ``(N,)``.
        params: the parameters that are trained, in the order of ``parameters()``.
    """

    def __init__(self, model: nn.Module, parts: Parts, input: Tensor, target: Tensor) -> None:
        self.params = parts.params
        self._samples, self._open = len(input), True
        self._start: Tensor | None = None
        self._maps: list[tuple[nn.Module, Kept]] = []
        self._rows: list[tuple[nn.Module, str]] = []
        self._sums: list[Tensor] = []
        handles = [layer.register_forward_hook(self._leave) for layer in parts.layers]
        try:
            with torch.enable_grad():
                output = model(input)
                losses = F.cross_entropy(wide(output), target, reduction="none")
        finally:
            self._open = False  # a checkpointed block runs once more in the backward pass
            for handle in handles:
                handle.remove()
        if self._start is not None:
            torch.autograd.grad(losses.sum(), self._start, allow_unused=True)
        # the graph holds this pass by its hooks: if the pass held the graph, neither would ever be freed
        self.output = Used.apply(output.detach(), losses.new_zeros((), requires_grad=True))
        self.losses = losses.detach()
        # all norms at once: the sums are small, their number is not
        self._table = torch.cat([self.params[0].new_zeros(len(input), 0), *self._sums], 1)
        self._sums.clear()

    @torch.no_grad()
    def slopes(self, direction: Params) -> Tensor:
        """Derivatives of all losses along ``direction``, ``(N,)``: tensors like :attr:`params`, in their order."""
        along = dict(zip(map(id, self.params), direction.values(), strict=True))
        found = self._table.new_zeros(self._samples)
        for layer, (a, b) in self._maps:
            local = {k: along[id(p)] for k, p in layer._parameters.items() if id(p) in along}
            found += self._of_samples(slopes(layer, a, b, local))
        if self._rows:
            found += self._table @ torch.cat([along[id(getattr(layer, name))].flatten() for layer, name in self._rows])
        return found

    @torch.no_grad()
    def gradient(self, weights: Tensor) -> list[Tensor]:
        r""":math:`\sum_i w_i \nabla \ell_i` for :attr:`params`."""
        flat = [t for _, kept in self._maps for t in kept]
        return _gradient(self.params, [m for m, _ in self._maps], self._rows, weights, self._table, flat)

    def weighted(self, weights: Tensor) -> Tensor:
        r""":math:`\sum_i w_i \ell_i`, which carries a gradient (once) for :attr:`params`, the network's own."""
        loss, layers = (weights * self.losses).sum(), [m for m, _ in self._maps]
        flat = [t for _, kept in self._maps for t in kept]
        tensors = weights, self._table, len(self.params), *self.params, *flat
        weighed: Tensor = _Weighted.apply(loss, layers, self._rows, *tensors)
        return weighed

    def _leave(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self._open or not output.requires_grad:
            return output
        (a,) = inputs
        if len(a) % self._samples:
            raise Unsuitable(
                f"a {type(layer).__name__} reads {len(a)} rows of {self._samples} samples: make the method with layerwise=False"
            )
        if shares_sums(layer, a, output):
            saved = output.grad_fn._saved_result1, output.grad_fn._saved_result2  # type: ignore[union-attr]
            return Grouped.apply(a, output.detach(), layer, *saved, partial(self._add_rows, layer))
        if not a.requires_grad:  # where the network begins: what the backward pass has to reach
            if self._start is None:
                self._start = output.new_zeros((), requires_grad=True)
            output = Begin.apply(output.detach(), self._start)
        # the graph keeps its hooks to the end of the pass, so what they read is taken out of them
        output.register_hook(partial(self._return, layer, [a.detach()], a._version))
        return output

    def _return(self, layer: nn.Module, read: list[Tensor], version: int, b: Tensor) -> None:
        a = read.pop()
        if a._version != version:
            raise Unsuitable(CHANGED.format(type(layer).__name__))
        if isinstance(layer, NORMS):
            self._add_rows(layer, *by_row(layer, a, b))
        else:
            self._maps.append((layer, (a, b)))

    def _of_samples(self, t: Tensor) -> Tensor:
        """Samples may have been cut into several rows each, as windows are."""
        return t if len(t) == self._samples else t.unflatten(0, (self._samples, -1)).sum(1)

    def _add_rows(self, layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
        for name, t in (("weight", scale), ("bias", shift)):
            p = getattr(layer, name)
            if p is not None and p.requires_grad:
                self._rows.append((layer, name))
                self._sums.append(self._of_samples(t))


def _gradient(
    params: Sequence[Tensor],
    layers: list[nn.Module],
    rows: list[tuple[nn.Module, str]],
    weights: Tensor,
    table: Tensor,
    flat: Sequence[Tensor],
) -> list[Tensor]:
    """Of the weighted sum: convolutions and linear layers from what they read and got back, norms from their table."""
    found: dict[int, Tensor | None] = {id(p): None for p in params}

    def add(layer: nn.Module, name: str, value: Tensor) -> None:
        p = getattr(layer, name)
        if id(p) in found:
            value, before = value.view_as(p), found[id(p)]
            found[id(p)] = value if before is None else before + value

    of = [(layer, name, getattr(layer, name).numel()) for layer, name in rows]
    for (layer, name, _), value in zip(of, (weights @ table).split([n for *_, n in of]), strict=True):
        add(layer, name, value.clone())
    chosen: dict[int, tuple[Tensor, Tensor | None]] = {}
    for layer, a, b in zip(layers, flat[::2], flat[1::2], strict=True):
        if len(a) not in chosen:
            each = weights.repeat_interleave(len(a) // len(weights))
            # on other devices the number of rows would have to be waited for
            some = each.nonzero()[:, 0] if each.device.type == "cpu" else None
            chosen[len(a)] = (each, None) if some is None or len(some) == len(each) else (each[some], some)
        each, some = chosen[len(a)]
        each = each.view(-1, *[1] * (b.ndim - 1))
        a, b = (a, b * each) if some is None else (a.index_select(0, some), b.index_select(0, some).mul_(each))
        if len(each):
            for name, value in weigh(layer, a, b).items():
                if value is not None:
                    add(layer, name, value)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found.values(), strict=True)]


class _Weighted(torch.autograd.Function):
    """A loss whose gradient is known layer by layer; the tensors are autograd's to free."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: Tensor,
        layers: list[nn.Module],
        names: list[tuple[nn.Module, str]],
        weights: Tensor,
        table: Tensor,
        count: int,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.layers, ctx.names, ctx.count = layers, names, count
        ctx.save_for_backward(weights, table, *tensors)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this loss can be differentiated once: for create_graph=True make the method with layerwise=False"
            )
        weights, table, *tensors = ctx.saved_tensors
        params, flat = tensors[: ctx.count], tensors[ctx.count :]
        found = _gradient(params, ctx.layers, ctx.names, weights * grad, table, flat)
        return (*[None] * 6, *found, *[None] * len(flat))
