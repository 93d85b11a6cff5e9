"""Size and cost of a model: parameters, MACs, activations, memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def cost(model: nn.Module, input_size: tuple[int, ...]) -> dict[str, int]:
    """Multiply-accumulates and activations of one sample, counted on the meta device.

    MACs are those of convolutions and matrix products; activations are the elements that convolutions and linear layers put out.

    Args:
        model: on any device; a copy without data is run.
        input_size: ``(C, H, W)``. A model with a method ``example_inputs()`` is called with what that gives instead.
    """
    import copy

    from torch.utils.flop_counter import FlopCounterMode

    # Without gradients: the counter follows autograd graphs, and a parameter as a module's input has none here.
    ghost = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    activations = 0

    def count(_: nn.Module, __: Any, out: Any) -> None:
        nonlocal activations
        if isinstance(out, Tensor):
            activations += out.numel()

    for module in ghost.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        own = getattr(ghost, "example_inputs", None)
        ghost(*(own() if own else (torch.empty(1, *input_size, device="meta"),)))
    return {"macs": counter.get_total_flops() // 2, "activations": activations}


def input_size_of(model: nn.Module) -> tuple[int, ...]:
    """Input ``(C, H, W)`` that a model was made for, with the channels that it has."""
    from zoo.factory.acts import _input_size

    return _input_size(model)


def summary(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What ``zoo create`` prints: a model's swaps, parameters, MACs, memory; for a method how to call it."""
    import zoo
    from zoo.errors import UnknownName
    from zoo.factory.targets import parameters_of
    from zoo.registry.lookup import registry

    reg = registry()
    what: str
    try:
        what, identity = reg.resolve(name)
    except UnknownName:
        what, identity = "backbone", name
    if what in {"method", "paper"}:
        method = reg.method(reg.method_for(name))
        given = [k for k, v in arguments.items() if v]
        if given:
            from zoo.errors import UnknownArgument

            raise UnknownArgument(f"{method.id} is a method; {', '.join(given)} goes with a model")
        signature = ", ".join(
            n if p.default is p.empty else f"{n}={method.defaults.get(n, p.default)!r}"
            for n, p in parameters_of(zoo.get(method.id)).items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        )  # fmt: skip
        return {
            "name": method.id,
            "lines": [f"{method.kind}: zoo.create({method.id!r}, {signature})", f"from {method.target}"],
        }
    model = zoo.create(name, **arguments)
    size = input_size_of(model)
    params = sum(p.numel() for p in model.parameters())
    found: dict[str, Any] = {"name": identity, "params": params, "input": list(size)}
    lines = [f"parameters   {params:,}"]
    try:
        found |= cost(model, size)
        found["memory_mb"] = {
            "weights": round(4 * params / 2**20, 1),
            "activations": round(4 * found["activations"] / 2**20, 1),
        }
        lines += [
            f"MACs         {found['macs']:,} for one input of {'x'.join(map(str, size))}",
            f"memory       {found['memory_mb']['weights']} MB weights, {found['memory_mb']['activations']} MB "
            "activations a sample (float32)",
        ]
    except (RuntimeError, NotImplementedError, ValueError, AssertionError) as error:
        lines.append(f"MACs         not counted: {(str(error) or type(error).__name__).splitlines()[0][:100]}")
    report = zoo.swap_report(model)
    if report is not None:
        found["swaps"] = [
            {"swap": r.swap, "method": r.method, "replaced": len(r.replaced), "left": len(r.left)}
            for r in (report.parts or (report,))
        ]
        lines += str(report).splitlines()
    loaded = zoo.load_report(model)
    if loaded is not None:
        lines.append(str(loaded))
        found["loaded"] = loaded.share
    return {**found, "lines": lines}
