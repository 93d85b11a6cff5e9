"""Contracts by kind, run over the whole registry; ``python -m tests.contracts --write`` records the capability table.

Every method of a kind below is constructed by the kind's convention (CONTRIBUTING.md) and must pass all *required* checks.
*Capabilities* may hold or not; the committed table says which, and a test holds the table to what is measured.
"""

from __future__ import annotations

import argparse
import copy
import gc
import io
import json
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.registry.lookup import registry

#: Constructor arguments and one input, by kind. Channels divide by every default.
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], Callable[[], tuple[Tensor, ...]]]] = {
    "norm": ((32,), {}, lambda: (torch.randn(4, 32, 5, 6),)),
    "activation": ((), {}, lambda: (torch.randn(2, 8, 5, 6),)),
    "conv": ((4, 6, 3), {"padding": 1}, lambda: (torch.randn(2, 4, 6, 7),)),
    "linear": ((5, 7), {}, lambda: (torch.randn(4, 5),)),
    "rnn": ((5, 6), {}, lambda: (torch.randn(3, 4, 5),)),
    "pool": ((8,), {}, lambda: (torch.randn(3, 8, 7, 6),)),
    "block": ((8,), {}, lambda: (torch.randn(2, 8, 7, 6),)),
    "upsample": ((8, 3, 2), {}, lambda: (torch.randn(2, 8, 5, 6),)),
    "loss": ((), {}, lambda: (torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0]))),
    "flow": ((3,), {}, lambda: (torch.randn(4, 3),)),
}
#: What a method may ask for before its own parameters.
NEEDS: dict[str, Callable[[], Any]] = {
    "channels": lambda: 8,
    "transition": lambda: torch.full((5, 5), 0.05) + 0.75 * torch.eye(5),
    "class_counts": lambda: torch.arange(1.0, 6.0),
}
REQUIRED = ("shape", "gradient", "state_dict", "deepcopy", "eval_repeats", "released")
CAPABILITIES = ("float64", "bfloat16", "autocast", "channels_last", "compile", "export", "meta")


def cases() -> list[str]:
    """Methods that a contract covers: of the kinds above, without arguments beyond the convention."""
    return [n for n, m in registry().raw.methods.items() if m["kind"] in CASES and not _special(n)]


def _special(name: str) -> bool:
    """Methods whose call needs more than the convention gives (an index, a second network, a graph)."""
    return bool(set(registry().raw.methods[name].get("needs", ())) - set(NEEDS))


def make(name: str) -> nn.Module:
    method = registry().method(name)
    args, kwargs, _ = CASES[method.kind]
    args = (*(NEEDS[n]() for n in method.needs), *args)
    torch.manual_seed(0)
    return zoo.create(name, *args, **kwargs)


def inputs(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in CASES[registry().raw.methods[name]["kind"]][2]())


def tensors(out: Any) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, dict):
        out = list(out.values())
    return [t for o in out for t in tensors(o)] if isinstance(out, tuple | list) else []


def close(a: Any, b: Any, tolerance: float) -> bool:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return all(torch.allclose(x.float(), y.float(), atol=tolerance, rtol=tolerance) for x, y in pairs)


# --------------------------------------------------------------------------- required


def shape(name: str) -> bool:
    method, module, given = registry().method(name), make(name), inputs(name)
    out, x = module(*given), given[0]
    first = tensors(out)[0]
    expected: tuple[int, ...] | None = {
        "norm": x.shape, "activation": x.shape, "conv": (2, 6, 6, 7), "linear": (4, 7), "upsample": (2, 3, 10, 12),
        "loss": (), "flow": x.shape,
    }.get(method.kind)  # fmt: skip
    if method.kind == "pool":
        expected = (x.shape[0], module.out_features)  # type: ignore[assignment]
    if method.kind == "block":
        expected = (x.shape[0], first.shape[1], *x.shape[2:])
    if method.kind == "flow":
        return first.shape == x.shape and tensors(out)[1].shape == (x.shape[0],)
    return first.dtype == x.dtype and (expected is None or tuple(first.shape) == tuple(expected))


def gradient(name: str) -> bool:
    """Finite gradients for the input and every parameter that takes part."""
    module, given = make(name), inputs(name)
    x = given[0].requires_grad_()
    out = tensors(module(x, *given[1:]))[0]
    (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    grads = [x.grad, *(p.grad for p in module.parameters() if p.requires_grad)]
    found = [g for g in grads if g is not None]
    return x.grad is not None and bool(found) and all(bool(torch.isfinite(g).all()) for g in found)


def state_dict(name: str) -> bool:
    """A trained layer's state goes through a file into a fresh one, which then answers the same."""
    module, given = make(name), inputs(name)
    for _ in range(3):
        module(*given)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other = make(name)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    torch.manual_seed(2)
    a = module.eval()(*given)
    torch.manual_seed(2)
    return close(a, other.eval()(*given), 1e-6)


def deepcopy(name: str) -> bool:
    module, given = make(name), inputs(name)
    module(*given)
    twin = copy.deepcopy(module).eval()
    torch.manual_seed(2)
    a = module.eval()(*given)
    torch.manual_seed(2)
    return close(a, twin(*given), 0.0) and not (
        {id(p) for p in module.parameters()} & {id(p) for p in twin.parameters()}
    )


def eval_repeats(name: str) -> bool:
    """In eval mode a layer answers the same twice and changes no state."""
    module, given = make(name), inputs(name)
    module(*given)
    module.eval()
    before = {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    with torch.no_grad():
        a, b = module(*given), module(*given)
    after = module.state_dict()
    return close(a, b, 0.0) and all(torch.equal(v, after[k]) for k, v in before.items())


def released(name: str) -> bool:
    """After a step nothing holds the input any more; a circle through the graph would, and no collector sees those."""
    module, given = make(name), tuple(t.requires_grad_() if t.is_floating_point() else t for t in inputs(name))
    watched = [weakref.ref(t) for t in given]
    out = module(*given)
    sum(t.float().sum() for t in tensors(out) if t.requires_grad).backward()  # type: ignore[union-attr]
    del given, out
    gc.collect()
    return all(one() is None for one in watched)


# --------------------------------------------------------------------------- capabilities


def float64(name: str) -> bool:
    module, given = make(name).double(), inputs(name, torch.float64)
    return tensors(module(*given))[0].dtype == torch.float64


def bfloat16(name: str) -> bool:
    """The whole layer in bfloat16 stays within bfloat16's own error of the float32 answer."""
    a = make(name).eval()(*inputs(name))
    b = make(name).eval().bfloat16()(*inputs(name, torch.bfloat16))
    return all(bool(torch.isfinite(t).all()) for t in tensors(b)) and close(a, b, 0.1)


def autocast(name: str) -> bool:
    module, given = make(name), inputs(name)
    x = given[0].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = tensors(module(x, *given[1:]))[0]
    out.float().sum().backward()
    return bool(torch.isfinite(out).all()) and x.grad is not None and bool(torch.isfinite(x.grad).all())


def channels_last(name: str) -> bool | None:
    given = inputs(name)
    if given[0].dim() != 4:
        return None
    a = make(name).eval()(*given)
    module = make(name).eval().to(memory_format=torch.channels_last)
    return close(a, module(given[0].contiguous(memory_format=torch.channels_last)), 1e-4)


def compile(name: str) -> bool:
    """One graph without a break, forward and backward, in training mode; the same numbers as eager."""
    torch._dynamo.reset()
    module, twin, given = make(name), make(name), inputs(name)
    x = given[0].clone().requires_grad_()
    y = given[0].clone().requires_grad_()
    torch.manual_seed(3)
    a = tensors(module(x, *given[1:]))[0]
    torch.manual_seed(3)
    b = tensors(torch.compile(twin, fullgraph=True, backend="aot_eager")(y, *given[1:]))[0]
    a.sum().backward()
    b.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    return close(a, b, 1e-4) and close(x.grad, y.grad, 1e-3)


def export(name: str) -> bool:
    """``torch.export`` of the layer in eval mode."""
    module, given = make(name), inputs(name)
    module(*given)
    module.eval()
    program = torch.export.export(module, given)
    return close(module(*given), program.module()(*given), 1e-4)


def meta(name: str) -> bool:
    """Construction and forward on the meta device, where sizes are planned without memory."""
    with torch.device("meta"):
        module = make(name).eval()
        given = tuple(t.to("meta") for t in inputs(name))
        return all(t.is_meta for t in tensors(module(*given)))


CHECKS: dict[str, Callable[[str], bool | None]] = {
    f.__name__: f
    for f in (
        shape,
        gradient,
        state_dict,
        deepcopy,
        eval_repeats,
        released,
        float64,
        bfloat16,
        autocast,
        channels_last,
        compile,
        export,
        meta,
    )
}


def capability(name: str, check: str) -> bool | None:
    """Whether a capability holds: True, False (also when it raises), or None where it does not apply."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return CHECKS[check](name)
        except Exception:  # a capability that raises is one that is not there; the table says so
            return False


def measure() -> dict[str, Any]:
    return {n: {c: capability(n, c) for c in CAPABILITIES} for n in sorted(cases())}


def main() -> None:
    from zoo.registry.files import checkout_root

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/data/capabilities.json")
    arguments = parser.parse_args()
    root = checkout_root()
    table = {"checks": {c: (CHECKS[c].__doc__ or c).strip() for c in CAPABILITIES}, "methods": measure()}
    for name, row in table["methods"].items():
        print(name, *(c for c, ok in row.items() if ok is False))
    if arguments.write and root is not None:
        path = root / "docs" / "data" / "capabilities.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in table["methods"].items())
        path.write_text(
            f'{{\n "checks": {json.dumps(table["checks"])},\n "methods": {{\n{rows}\n }}\n}}\n', encoding="utf-8"
        )


if __name__ == "__main__":
    main()
