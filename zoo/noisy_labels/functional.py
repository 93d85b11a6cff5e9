"""The network as a function of its parameters, for methods that look ahead or differentiate forwards."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
import torch.autograd.forward_ad as forward_mode
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.numerics import wide, without_autocast

Params = dict[str, Tensor]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def parameters_of(model: nn.Module) -> Params:
    """:func:`trained`, detached."""
    return {name: p.detach() for name, p in trained(model).items()}


def call(model: nn.Module, params: Params, input: Tensor) -> Tensor:
    """The logits at ``params``. Buffers are copies: BatchNorm uses the batch, its running statistics stay."""
    # views, so that a module that divides its own passes over processes can tell this one from them
    values = {name: p.view_as(p) if isinstance(p, nn.Parameter) else p for name, p in params.items()}
    return functional_call(model, (values, {name: b.clone() for name, b in model.named_buffers()}), (input,))


def per_sample(model: nn.Module, params: Params, input: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every sample at ``params``, ``(N,)``."""
    return F.cross_entropy(wide(call(model, params, input)), target, reduction="none")


def alone(model: nn.Module) -> bool:
    """Whether the network's own pass sees the whole batch at full precision, so that a method may differentiate it twice.

    A network that several processes share gathers gradients in ``backward()`` only, and autocast rounds what a look-ahead
    needs: then methods take a pass of their own, by :func:`call`.
    """
    shared = isinstance(model, nn.parallel.DistributedDataParallel) or getattr(model, "shares_batch", False)
    device = next(model.parameters()).device.type
    return not shared and not torch.is_autocast_enabled(device)


def gradient(model: nn.Module, params: Params, input: Tensor, target: Tensor, weights: Tensor | None = None) -> Params:
    """The gradient at ``params`` of the mean loss, or of the sum weighted by ``weights`` ``(N,)``."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    losses = per_sample(model, leaves, input, target)
    total = losses.mean() if weights is None else (weights * losses).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def own_gradient(model: nn.Module, params: dict[str, nn.Parameter], input: Tensor, target: Tensor) -> Params:
    """:func:`gradient` of the mean loss at the network's own :func:`trained` parameters, by the network itself.

    Only where that leaves no trace, in buffers or hooks. Calling a network with other parameters takes all its modules apart
    and together again, which a small one notices.
    """
    loss = F.cross_entropy(wide(model(input)), target)
    found = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(params, found, strict=True))


def slope(model: nn.Module, params: Params, direction: Params, input: Tensor, target: Tensor) -> Tensor:
    """The derivative of every sample's loss at ``params`` along ``direction``, ``(N,)``: one forward-mode pass, no graph."""
    with torch.no_grad(), forward_mode.dual_level():
        dual = {name: forward_mode.make_dual(p.detach(), direction[name]) for name, p in params.items()}
        tangent = forward_mode.unpack_dual(per_sample(model, dual, input, target)).tangent
    # A loss that does not depend on the parameters has no tangent.
    return torch.zeros_like(target, dtype=next(iter(params.values())).dtype) if tangent is None else tangent


@contextlib.contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """No autocast, and attention by plain matrix products: fused kernels lack forward mode and second order."""
    with (
        without_autocast(device.type),
        sdpa_kernel(SDPBackend.MATH),
        warnings.catch_warnings(),
        torch.enable_grad(),
    ):
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # torch.func.jvp in torch 2.15
        yield


def random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Of the CPU, and of ``device`` if it has one of its own."""
    return (torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []))


@contextlib.contextmanager
def same_randomness(device: torch.device, state: tuple[Tensor, ...] | None = None) -> Iterator[None]:
    """Leave the random state as it was found, so that the next pass draws the same dropout masks; meanwhile go on from ``state``."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if state is not None:
            torch.set_rng_state(state[0])
            for one in state[1:]:
                torch.cuda.set_rng_state(one, device)
        yield
