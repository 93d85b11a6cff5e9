"""An activation that works in place may stand behind every norm, as in timm's norm-act layers: same values, same gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.factory.norms import build_norm
from zoo.registry.lookup import registry

#: Settings in which every part of a layer takes part.
SETTINGS = {"four_things_bn": {"ghost_size": 2}, "moving_average_bn": {"buffer_size": 2, "warmup": 0}}
VARIANTS = {"four_things_bn groups": ("four_things_bn", {"ghost_size": 2, "num_groups": 4})}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", [*zoo.list_methods(kind="norm"), *VARIANTS])
def test_activation_in_place(name, dtype, layout, training):
    torch.manual_seed(0)
    method, arguments = VARIANTS.get(name, (name, SETTINGS.get(name, {})))
    layer = build_norm(registry().method(method), 32, "2d", arguments)
    layer.train()(torch.randn(4, 32, 24, 24))  # data-dependent starts and running values
    layer.train(training)
    format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    start = torch.randn(4, 32, 24, 24).to(dtype).contiguous(memory_format=format)
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    found = []
    for in_place in (False, True):
        layer.load_state_dict(state)
        x = start.clone(memory_format=torch.preserve_format).requires_grad_()
        y = F.relu(layer(x), inplace=in_place)
        (y * torch.arange(32.0).view(-1, 1, 1)).sum().backward()
        found.append((y.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
