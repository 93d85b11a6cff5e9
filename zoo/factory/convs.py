"""Exchange every 2-d convolution of a model."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.factory.shapes import recast, same_padded
from zoo.factory.surgery import Plan, copy_values, settle, sites
from zoo.factory.targets import call, load_target
from zoo.registry.schema import Method


def plan_convs(model: nn.Module, method: Method, parameters: dict[str, Any], shown: str) -> Plan:
    """Plan the exchange: same geometry, weights copied where the new layer keeps them in the same shape."""
    plan = Plan("conv", shown)
    target = load_target(method.target)
    for site in sites(model, lambda m: isinstance(m, nn.Conv2d)):
        old = site.module
        assert isinstance(old, nn.Conv2d)
        same = type(old).__name__.endswith("Same")
        if type(old) is not nn.Conv2d and not same and not isinstance(old, target):
            plan.keep(site, "a convolution with a method of its own")
            continue
        if old.padding_mode != "zeros":
            plan.keep(site, f"pads by {old.padding_mode}")
            continue
        if isinstance(old.padding, str):
            plan.keep(site, f"pads by name ({old.padding})")
            continue
        geometry = {
            "kernel_size": old.kernel_size,
            "stride": old.stride,
            "padding": 0 if same else old.padding,
            "dilation": old.dilation,
            "groups": old.groups,
            "bias": old.bias is not None,
        }
        try:
            new = call(
                method.id, target, (old.in_channels, old.out_channels), method.defaults, {**geometry, **parameters}
            )
        except ValueError as error:  # a geometry that the method does not have, said by the layer itself
            plan.keep(site, str(error))
            continue
        settle(new, old)
        lost = copy_values(new, old)
        if same:
            new = recast(new, same_padded)
        plan.put(site, new, f"the new layer has no {' and '.join(lost)} of the old shape" if lost else "")
    return plan
