"""For which networks :mod:`zoo.noisy_labels.layerwise` is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.noisy_labels._layers import CONVOLUTIONS, LAYERS
from zoo.noisy_labels._nodes import Unsuitable
from zoo.noisy_labels.functional import Params, alone, call, differentiable, gradient, same_randomness
from zoo.noisy_labels.layerwise import Parts, Pass
from zoo.numerics import wide

SAMPLES, TOLERANCE = 4, 1e-3


def take_apart(model: nn.Module, trained: Sequence[nn.Parameter], input: Tensor) -> Parts | None:
    """The parts of a network whose ``trained`` parameters all belong to layers that are linear in them, which nothing watches,
    and whose samples can be told from each other; else None.
    """
    if len(input) < 2 or not input.is_floating_point() or input.requires_grad:
        return None
    modules = list(model.modules())
    layers = []
    for m in modules:
        if m._backward_hooks or m._backward_pre_hooks:  # they would be shown gradients of unweighted losses
            return None
        kind = type(m)
        if getattr(m, "_compiled_call_impl", None) is not None or kind.__name__ == "OptimizedModule":
            return None
        if isinstance(m, nn.DataParallel):
            return None
        if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None):
            return None
        if not any(p is not None and p.requires_grad for p in m._parameters.values()):
            continue
        if (
            kind not in LAYERS
            or m._forward_hooks
            or m._forward_pre_hooks
            or not m._parameters.keys() <= {"weight", "bias"}
        ):
            return None
        if kind in CONVOLUTIONS and (m.padding_mode != "zeros" or isinstance(m.padding, str)):
            return None
        layers.append(m)
    # parts of a parameter, quantized ones, half precision
    if any(type(p) is not nn.Parameter or p.dtype not in (torch.float32, torch.float64) for p in trained):
        return None
    own = [p.requires_grad for m in modules for p in m._parameters.values() if p is not None]
    structure = tuple((type(m), m.training) for m in modules), tuple(own), input.shape[1:], input.dtype
    traceless = not any(m._buffers for m in modules) and not any(p._backward_hooks for p in trained)
    return Parts(structure, layers, list(trained), traceless)


def suits(model: nn.Module, parts: Parts, params: Params, direction: Params, input: Tensor, target: Tensor) -> bool:
    """Whether :class:`~zoo.noisy_labels.layerwise.Pass` is right for a network of known layers, measured on the first samples of a
    batch.

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
            run = Pass(model, parts, x, y)
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
    """For which networks and inputs :class:`~zoo.noisy_labels.layerwise.Pass` is right, found out once for each structure."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.answers: dict[tuple[Any, ...], bool] = {}

    def possible(self, model: nn.Module, trained: Sequence[nn.Parameter], input: Tensor) -> Parts | None:
        """The network's parts, if as far as can be told from it the pass is right."""
        if not self.wanted or not torch.is_grad_enabled() or not alone(model):
            return None
        return take_apart(model, trained, input)

    def made(
        self,
        model: nn.Module,
        parts: Parts,
        params: Params,
        direction: Callable[[], Params],
        input: Tensor,
        target: Tensor,
    ) -> bool:
        """By measuring, where it is :meth:`possible`; ``direction`` is any that is not zero."""
        if parts.structure not in self.answers:
            with same_randomness(input.device), differentiable(input.device):
                self.answers[parts.structure] = suits(model, parts, params, direction(), input, target)
        return self.answers[parts.structure]
