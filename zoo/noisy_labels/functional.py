"""The network as a function of its parameters, for methods that look ahead or differentiate forwards."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.noisy_labels.base import wide
from zoo.numerics import without_autocast

Params = dict[str, Tensor]


def parameters_of(model: nn.Module) -> Params:
    """The parameters that are trained, detached."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def call(model: nn.Module, params: Params, input: Tensor) -> Tensor:
    """The logits at ``params``. Buffers are copies: BatchNorm uses the batch, its running statistics stay."""
    # views, so that a module that divides its own passes over processes can tell this one from them
    values = {name: p.view_as(p) if isinstance(p, nn.Parameter) else p for name, p in params.items()}
    return functional_call(model, (values, {name: b.clone() for name, b in model.named_buffers()}), (input,))


def per_sample(model: nn.Module, params: Params, input: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every sample at ``params``, ``(N,)``."""
    return F.cross_entropy(wide(call(model, params, input)), target, reduction="none")


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


@contextlib.contextmanager
def same_randomness(device: torch.device) -> Iterator[None]:
    """Leave the random state as it was found, so that the next pass draws the same dropout masks."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
