"""What every optimizer of the package must keep, whatever its formula.

Each check takes a factory ``params -> optimizer``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

Factory = Callable[..., Optimizer]


def parameters(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """A matrix, a convolution kernel in channels_last, a bias of zeros and a transposed view-like layout."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 3), (4, 3, 2, 2), (6,), (2, 7)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[1] = tensors[1].contiguous(memory_format=torch.channels_last)
    tensors[2].zero_()
    tensors[3] = tensors[3].t()
    return [t.to(dtype).requires_grad_() for t in tensors]


def gradients(steps: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [p.shape for p in parameters()]
    return [[torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes] for _ in range(steps)]


def run(optimizer: Optimizer, params: list[Tensor], grads: list[list[Tensor]]) -> list[Tensor]:
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach().clone() for p in params]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x.double() - y.double()).abs().max()) for x, y in zip(a, b, strict=True))


def against_loop(make: Factory, one_tensor: Callable[[Tensor, list[Tensor]], Tensor], steps: int = 6) -> float:
    """Largest error against ``one_tensor(start, its gradients) -> end``."""
    params, grads = parameters(), gradients(steps)
    wanted = [one_tensor(p.detach().clone(), [g[i] for g in grads]) for i, p in enumerate(params)]
    return difference(run(make(params), params, grads), wanted)


def check_paths_agree(make: Factory, tolerance: float = 1e-12) -> None:
    ends = []
    for options in ({"foreach": False}, {"foreach": True}, {"foreach": True, "capturable": True}):
        params = parameters()
        ends.append(run(make(params, **options), params, gradients(5)))
    assert difference(ends[0], ends[1]) < tolerance
    assert difference(ends[0], ends[2]) < 1e-6  # the counter on the device is float32


def check_resume(make: Factory, dtype: torch.dtype = torch.float32) -> None:
    """Saved after 3 of 6 steps, loaded into a fresh optimizer: the path goes on exactly, state keeps its type."""
    grads = gradients(6, dtype)
    params = parameters(dtype)
    optimizer = make(params)
    run(optimizer, params, grads[:3])
    saved = copy.deepcopy(optimizer.state_dict())
    middle = [p.detach().clone() for p in params]
    straight = run(optimizer, params, grads[3:])
    resumed = [m.clone().requires_grad_() for m in middle]
    fresh = make(resumed)
    fresh.load_state_dict(saved)
    for p in resumed:
        for value in fresh.state[p].values():
            assert value.dtype == torch.float32
    assert difference(run(fresh, resumed, grads[3:]), straight) == 0.0


def check_added_group(make: Factory) -> None:
    """A group added after two steps goes its own way from its own first step, with its own rate; saved and resumed."""
    for foreach in (False, True):
        a, b = (torch.full((3, 2), v, dtype=torch.float64, requires_grad=True) for v in (1.0, 2.0))
        alone = b.detach().clone().requires_grad_()
        generator = torch.Generator().manual_seed(0)
        grads = [torch.randn(3, 2, dtype=torch.float64, generator=generator) for _ in range(4)]
        optimizer = make([a], foreach=foreach)
        run(optimizer, [a], [[g] for g in grads[:2]])
        optimizer.add_param_group({"params": [b], "lr": 0.5})
        run(optimizer, [a, b], [[g, g] for g in grads[2:3]])
        fresh = make([a], foreach=foreach)
        fresh.add_param_group({"params": [b], "lr": 0.5})
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(fresh, [a, b], [[g, g] for g in grads[3:]])
        run(make([alone], lr=0.5, foreach=foreach), [alone], [[g] for g in grads[2:]])
        assert difference([b.detach()], [alone.detach()]) < 1e-14
        assert not torch.equal(b.detach(), torch.full((3, 2), 2.0, dtype=torch.float64))


def check_capturable(make: Factory) -> None:
    """The counter follows the parameter, also through a saved state, and the path is that of a plain optimizer."""
    params, plain, grads = parameters(), parameters(), gradients(4)
    optimizer = make(params, capturable=True)
    run(optimizer, params, grads[:2])
    resumed = make(params, capturable=True)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p in params:
        assert resumed.state[p]["step"].device == p.device
        assert float(resumed.state[p]["step"]) == 2
    assert difference(run(resumed, params, grads[2:]), run(make(plain), plain, grads)) < 1e-6
    tensor_rate = make(parameters(), lr=torch.tensor(0.01, dtype=torch.float64), capturable=True)
    number = make(parameters(), lr=0.01)
    ends = [run(o, o.param_groups[0]["params"], grads) for o in (tensor_rate, number)]
    assert difference(*ends) < 1e-6


def check_closure(make: Factory) -> None:
    p = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = make([p])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    assert float(optimizer.step(closure).detach()) == 5.0
    assert not torch.equal(p, before)


def check_leaves_gradients(make: Factory) -> None:
    for foreach in (False, True):
        params = parameters(torch.float32)
        optimizer = make(params, foreach=foreach)
        grads = gradients(1, torch.float32)[0]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params, grads, strict=True))


def check_missing_gradient(make: Factory) -> None:
    """A parameter without gradient stays, has no state, and starts its own count later."""
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = make([a, b])
    for _ in range(2):
        a.grad = torch.ones(3)
        optimizer.step()
    assert torch.equal(b.detach(), torch.ones(3))
    assert len(optimizer.state[b]) == 0
    b.grad = torch.ones(3)
    optimizer.step()
    assert float(optimizer.state[a]["step"]) == 3
    assert float(optimizer.state[b]["step"]) == 1


def check_compiles_once(make: Factory) -> None:
    """``torch.compile(step, fullgraph)`` follows the eager path and does not recompile from step to step."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    params, plain = parameters(torch.float32), parameters(torch.float32)
    optimizer = make(params)
    counter = CompileCounter()
    compiled = torch.compile(optimizer.step, backend=counter, fullgraph=True)
    grads = gradients(6, torch.float32)
    for index, step in enumerate(grads):
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        compiled()
        if index == 2:
            settled = counter.frame_count
    assert counter.frame_count == settled
    assert difference([p.detach() for p in params], run(make(plain), plain, grads)) < 1e-5


def check_bad_input(make: Factory, name: str) -> None:
    p = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=rf"{name} needs .*lr.*received -1"):
        make([p], lr=-1)
    with pytest.raises(ValueError, match=r"betas\[0\].*received 1\.5"):
        make([p], betas=(1.5, 0.9))
    with pytest.raises(ValueError, match="weight_decay"):
        make([p], weight_decay=-0.1)
    with pytest.raises(TypeError, match="unexpected keyword"):
        make([p], weight_decya=0.1)
    with pytest.raises(TypeError, match="complex64"):
        make([torch.ones(2, dtype=torch.complex64, requires_grad=True)])
    weight = torch.ones(4, 2, requires_grad=True)
    optimizer = make([p, weight])
    p.grad = torch.ones(2)
    weight.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2))
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2))


def check_all(make: Factory, name: str) -> None:
    check_paths_agree(make)
    for dtype in (torch.float32, torch.bfloat16):
        check_resume(make, dtype)
    check_closure(make)
    check_leaves_gradients(make)
    check_missing_gradient(make)
    check_added_group(make)
    check_capturable(make)
    check_bad_input(make, name)
    params = parameters(torch.float32)
    optimizer = make(params)
    optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], "lr": 0.5})
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())
