"""Compiled training is eager training: outputs, gradients and state over several steps, for every norm with buffers.

The backend partitions and decomposes as inductor does, without generating code: it decides what backward recomputes, and
a value recomputed from a buffer that the same forward pass has moved would give wrong gradients without an error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.registry.lookup import registry

C = 6
#: Besides the registry's defaults: settings in which other branches and buffers take part.
VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "batch_renorm open": lambda: zoo.create("batch_renorm", C, schedule=(0, 2, 2), momentum=0.3),
    "moving_average_bn past warmup": lambda: zoo.create(
        "moving_average_bn", C, buffer_size=2, warmup=2, clip_after=2, decay=0.6
    ),
    "batch_channel_norm": lambda: zoo.create("batch_channel_norm", C, num_groups=3),
    "batch_channel_norm estimated": lambda: zoo.create("batch_channel_norm", C, num_groups=3, estimated=True),
    "four_things_bn ghosts": lambda: zoo.create("four_things_bn", C, ghost_size=2, momentum=0.4),
    "four_things_bn groups": lambda: zoo.create("four_things_bn", C, num_groups=3, momentum=0.4),
    "streaming_norm p=1": lambda: zoo.create("streaming_norm", C, p=1, beta=(0.5, 0.3, 0.2)),
    "actnorm factor 1": lambda: zoo.create("actnorm", C, logscale_factor=1.0),
    "recurrent_batch_norm": lambda: zoo.create("recurrent_batch_norm", C, 3, batch_first=True, max_length=1, gamma=0.5),
    "recurrent_batch_norm average": lambda: zoo.create("recurrent_batch_norm", C, 3, batch_first=True, momentum=None),
    "batch_norm_rnn": lambda: zoo.create("batch_norm_rnn", C, 3, batch_first=True),
    "batch_norm_rnn frame": lambda: zoo.create("batch_norm_rnn", C, 3, batch_first=True, statistics="frame"),
}


def stateful() -> list[str]:
    """Norms of the registry with buffers, by the registry itself: a new one is tested without being named here."""
    found = []
    for name, method in registry().raw.methods.items():
        if method["kind"] == "norm" and name != "batch_channel_norm":
            with torch.device("meta"):
                if list(zoo.create(name, 32).buffers()):
                    found.append(name)
    return found


def steps(module: nn.Module, call: Callable[[Tensor], object], shape: tuple[int, ...]) -> list[Tensor]:
    """Four training steps with moving data; everything that they leave behind."""
    generator = torch.Generator().manual_seed(1)
    left = []
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1) if list(module.parameters()) else None
    for step in range(4):
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * (1 + step) + step
        x.requires_grad_()
        y = call(x)
        y = y[0] if isinstance(y, tuple) else y
        weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
        (weights * (y + y.sin())).mean().backward()
        left += [y.detach().clone(), x.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)]
        left += [b.clone() for b in module.buffers()]
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        if step == 1 and hasattr(module, "weight_update"):
            module.weight_update()
    return left


@pytest.mark.parametrize("name", [*stateful(), *VARIANTS])
def test_four_steps(name: str) -> None:
    torch._dynamo.reset()
    eager = (VARIANTS[name]() if name in VARIANTS else zoo.create(name, C)).double().train()
    twin = copy.deepcopy(eager)
    shape = (4, 2, C) if hasattr(eager, "hidden_size") else (4, C, 3, 2)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager_decomp_partition")
    for expected, received in zip(steps(eager, eager, shape), steps(twin, compiled, shape), strict=True):
        torch.testing.assert_close(received.double(), expected.double(), rtol=1e-9, atol=1e-9)
