r"""Slopes of every sample's loss and a weighted gradient from one pass, layer by layer.

For a layer that is linear in its own parameters, :math:`z_i = f(a_i; W)`, with :math:`b_i = \partial \ell_i / \partial z_i`

.. math:: \langle \nabla_W \ell_i, V \rangle = \langle b_i, f(a_i; V) \rangle, \qquad
          \textstyle\sum_i w_i \nabla_W \ell_i = \sum_i \partial_W f(a_i; W)^\top (w_i b_i),

so one forward and one backward pass to the activations serve both, for any directions and weights, where forward mode and a
weighted step need two forward passes and a full backward. It holds where no sample's loss depends on another sample, which
:func:`suits` finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.noisy_labels._nodes import CHANGED, GROUPED, Begin, Grouped, Unsuitable, Used, shares_sums
from zoo.noisy_labels.functional import Params, alone, call, differentiable, gradient, same_randomness
from zoo.numerics import wide

Kept = tuple[Tensor, Tensor]
Local = dict[str, Tensor]

_CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
_NORMS: tuple[Any, ...] = (nn.LayerNorm, *GROUPED)
#: Exact types: a subclass may compute anything.
LAYERS: tuple[type[nn.Module], ...] = (*_CONVOLUTIONS, nn.Linear, *_NORMS)
SAMPLES, TOLERANCE = 4, 1e-3
#: Elements of a temporary on a CPU: what fits its cache is faster than one map of the whole batch, whose memory is new each time.
PIECE = 2**18


def _response(layer: Any, a: Tensor, direction: Local) -> Tensor:
    """``f(a; V)`` of a convolution or linear layer; parameters that are not trained count as zero."""
    v, bias = direction.get("weight"), direction.get("bias")
    v = torch.zeros_like(layer.weight) if v is None else v
    if type(layer) is nn.Linear:
        return F.linear(a, v, bias)
    return _CONVOLUTIONS[type(layer)](a, v, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _normalized(layer: Any, a: Tensor) -> Tensor:
    if type(layer) is nn.LayerNorm:
        return F.layer_norm(a, layer.normalized_shape, eps=layer.eps)
    return F.group_norm(a, layer.num_groups, eps=layer.eps)


def _by_parameter(layer: Any, t: Tensor) -> Tensor:
    """Sum over all but the samples and the axes of a norm's parameters, ``(N, parameters)``."""
    count = layer.weight.numel()
    if type(layer) is nn.LayerNorm:
        return t.reshape(len(t), -1, count).sum(1)
    t = t.reshape(len(t), count, -1)
    return t @ t.new_ones(t.shape[2])  # over a short last axis a product is faster than a sum


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors in pieces of rows."""
    rows, largest = len(tensors[0]), max(t.numel() for t in tensors)
    if tensors[0].device.type != "cpu" or largest <= 2 * PIECE:
        yield tensors
    else:
        yield from zip(*(t.split(max(1, PIECE * rows // largest)) for t in tensors), strict=True)


def _together(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _by_row(layer: Any, a: Tensor, b: Tensor) -> Kept:
    """Gradients of a norm's gain and shift from every row of its input."""
    scale = _together([_by_parameter(layer, _normalized(layer, u).mul_(v)) for u, v in _pieces(a, b)])
    return scale, _by_parameter(layer, b)


def _slopes(layer: Any, a: Tensor, b: Tensor, direction: Local) -> Tensor:
    """Part of a convolution or linear layer in the slope of every row of its input, ``(rows,)``."""
    return _together([_response(layer, u, direction).mul_(v).flatten(1).sum(1) for u, v in _pieces(a, b)])


def _weigh(layer: Any, a: Tensor, b: Tensor) -> Local:
    """The sum over rows of the gradients of a convolution's or linear layer's parameters."""
    if type(layer) is nn.Linear:
        b, a = b.flatten(0, -2), a.flatten(0, -2)
        return {"weight": b.mT @ a, "bias": b.sum(0)}
    zeros = [0] * (a.ndim - 2)
    has_bias = layer.bias is not None
    _, weight, bias = torch.ops.aten.convolution_backward(
        b, a, layer.weight, [len(layer.weight)] if has_bias else None,
        layer.stride, layer.padding, layer.dilation, False, zeros, layer.groups, [False, True, has_bias],
    )  # fmt: skip
    return {"weight": weight, "bias": bias}


class Pass:
    """One pass of the network, of which slopes of all losses and weighted gradients can be had.

    Args:
        model: a network of :func:`known` layers that :func:`suits`.
        input, target: ``(N, *)`` and classes ``(N,)``.

    Attributes:
        output: logits ``(N, K)``; their graph has been used: an error if something is differentiated through them.
        losses: cross-entropy of every sample, ``(N,)``.
        params: the parameters that are trained, in the order of ``parameters()``.
    """

    def __init__(self, model: nn.Module, input: Tensor, target: Tensor) -> None:
        self.params = [p for p in model.parameters() if p.requires_grad]
        self._samples, self._open = len(input), True
        self._start: Tensor | None = None
        self._maps: list[tuple[nn.Module, Kept]] = []
        self._rows: list[tuple[nn.Module, str]] = []
        self._sums: list[Tensor] = []
        handles = []
        for m in model.modules():
            if type(m) in LAYERS and any(p is not None and p.requires_grad for p in m._parameters.values()):
                handles.append(m.register_forward_hook(self._leave))
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
            found += self._of_samples(_slopes(layer, a, b, local))
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
        if isinstance(layer, _NORMS):
            self._add_rows(layer, *_by_row(layer, a, b))
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
            for name, value in _weigh(layer, a, b).items():
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


def structure(model: nn.Module, input: Tensor) -> tuple[Any, ...]:
    """What :func:`suits` depends on: types and modes of all modules, which parameters are trained, shape of a sample."""
    modules = tuple((type(m), m.training) for m in model.modules())
    return modules, tuple(p.requires_grad for p in model.parameters()), input.shape[1:], input.dtype


def known(model: nn.Module, input: Tensor) -> bool:
    """Whether all trained parameters belong to layers that are linear in them, nothing watches them, and samples can be told
    from each other.
    """
    if len(input) < 2 or not input.is_floating_point() or input.requires_grad:
        return False
    for m in model.modules():
        own = [p for p in m._parameters.values() if p is not None and p.requires_grad]
        if m._backward_hooks or m._backward_pre_hooks:  # they would be shown gradients of unweighted losses
            return False
        if getattr(m, "_compiled_call_impl", None) is not None or type(m).__name__ == "OptimizedModule":
            return False
        if isinstance(m, nn.DataParallel):
            return False
        if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None):
            return False
        if not own:
            continue
        if (
            type(m) not in LAYERS
            or m._forward_hooks
            or m._forward_pre_hooks
            or not set(m._parameters) <= {"weight", "bias"}
        ):
            return False
        if type(m) in _CONVOLUTIONS and (m.padding_mode != "zeros" or isinstance(m.padding, str)):
            return False
        if any(type(p) is not nn.Parameter or p.dtype not in (torch.float32, torch.float64) for p in own):
            return False  # parts of a parameter, quantized ones, half precision
    return True


def suits(model: nn.Module, params: Params, direction: Params, input: Tensor, target: Tensor) -> bool:
    """Whether :class:`Pass` is right for a network of :func:`known` layers, measured on the first samples of a batch.

    It is if no sample's loss has a gradient for another sample's input, exactly, and if slopes and weighted
    gradients agree with autograd's, sample by sample, which finds parameters that are used in other ways too.
    """
    x, y = input[:SAMPLES], target[:SAMPLES]
    with same_randomness(input.device):
        leaf = x.clone().requires_grad_()
        losses = F.cross_entropy(wide(call(model, params, leaf)), y, reduction="none")
        if not losses.requires_grad:
            return False
        for i, others in ((0, slice(1, None)), (-1, slice(0, -1))):
            (g,) = torch.autograd.grad(losses[i], leaf, retain_graph=True, allow_unused=True)
            if g is not None and bool(g[others].ne(0).any()):
                return False
    weights = torch.arange(len(y), device=x.device, dtype=losses.dtype)
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    try:
        with same_randomness(input.device):
            run = Pass(model, x, y)
    except Unsuitable:
        return False
    finally:
        for name, b in model.named_buffers():
            b.data.copy_(buffers[name])

    def reverse(weights: Tensor) -> Params:
        with same_randomness(input.device):
            return gradient(model, params, x, y, weights)

    wanted = reverse(weights)
    each = [reverse(one) for one in torch.eye(len(y), device=x.device, dtype=losses.dtype)]
    slopes = torch.stack([torch.stack([(g[k] * direction[k]).sum() for k in params]).sum() for g in each])
    found = run.gradient(weights)
    floor = TOLERANCE**2 * max(float(w.abs().max()) for w in wanted.values())
    pairs = [
        (run.slopes(direction), slopes, 0.0),
        *((f, w, floor) for f, w in zip(found, wanted.values(), strict=True)),
    ]
    return all(float((f - w).abs().max()) <= TOLERANCE * float(w.abs().max()) + least for f, w, least in pairs)


class Choice:
    """For which networks and inputs :class:`Pass` is right, found out once for each :func:`structure`."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.answers: dict[tuple[Any, ...], bool] = {}

    def possible(self, model: nn.Module, input: Tensor) -> bool:
        """As far as can be told from the network."""
        return self.wanted and torch.is_grad_enabled() and alone(model) and known(model, input)

    def made(
        self, model: nn.Module, params: Params, direction: Callable[[], Params], input: Tensor, target: Tensor
    ) -> bool:
        """By measuring, where it is :meth:`possible`; ``direction`` is any that is not zero."""
        key = structure(model, input)
        if key not in self.answers:
            with same_randomness(input.device), differentiable(input.device):
                self.answers[key] = suits(model, params, direction(), input, target)
        return self.answers[key]
