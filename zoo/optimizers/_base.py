"""What the Adam-like optimizers of this package share: checked groups, float32 state, one step counter a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

LOW_PRECISION = (torch.float16, torch.bfloat16)
TensorOrFloat = Tensor | float


def check_range(optimizer: str, name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ``ValueError`` unless ``low <= value < high``; tensors (a capturable lr) pass, to avoid a sync."""
    if isinstance(value, Tensor):
        return
    if not low <= value < high:
        raise ValueError(f"{optimizer} needs {low:g} <= {name} < {high:g}, received {value!r}")


def check_betas(optimizer: str, betas: Sequence[float]) -> None:
    if len(betas) != 2:
        raise ValueError(f"{optimizer} needs two betas, received {betas!r}")
    for index, beta in enumerate(betas):
        check_range(optimizer, f"betas[{index}]", beta, 0.0, 1.0)


def check_common(optimizer: str, lr: float | Tensor, eps: float, weight_decay: float) -> None:
    """The three hyperparameters that every optimizer here has."""
    check_range(optimizer, "lr", lr, 0.0)  # type: ignore[arg-type]
    check_range(optimizer, "eps", eps, 0.0)
    check_range(optimizer, "weight_decay", weight_decay, 0.0)


def wide(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors themselves, float16 and bfloat16 ones as float32 copies."""
    return [t.float() if t.dtype in LOW_PRECISION else t for t in tensors]


def write_back(params: Sequence[Tensor], work: Sequence[Tensor]) -> None:
    """Copy the updated float32 copies of low precision parameters back into the parameters."""
    for p, w in zip(params, work, strict=True):
        if p is not w:
            p.copy_(w)


class Scratch:
    """Temporary storage reused from tensor to tensor, so that a CPU step stays in cache and allocates once."""

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._size = max(t.numel() for t in like)
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}

    def __call__(self, slot: int, like: Tensor) -> Tensor:
        buffer = self._buffers.get((slot, like.dtype))
        if buffer is None:
            buffer = self._buffers[slot, like.dtype] = torch.empty(self._size, dtype=like.dtype, device=like.device)
        if like.is_contiguous():
            return buffer[: like.numel()].view(like.shape)
        if torch.ops.aten.is_non_overlapping_and_dense(like):
            return buffer.as_strided(like.shape, like.stride())
        return torch.empty_like(like)


class Lists(NamedTuple):
    """What an update works on: one entry a parameter that has a gradient, all in the same order."""

    params: list[Tensor]
    grads: list[Tensor]
    first: list[Tensor]  # state ``moments[0]``
    second: list[Tensor]  # state ``moments[1]``
    steps: list[Any]  # numbers, or tensors while compiling or capturing


class MomentOptimizer(Optimizer):
    """Base of optimizers that keep two tensors of a parameter's shape and a step counter for each parameter.

    * State is float32 for float16 and bfloat16 parameters and stays so through ``load_state_dict``.
    * The counter is a float32 tensor, on the CPU or, with ``capturable``, beside the parameter: nothing recompiles
      from step to step and a CUDA graph can advance it.
    * ``foreach=None`` takes the multi-tensor path everywhere but for plain CPU tensors outside ``torch.compile``, where
      one tensor at a time with reused scratch memory touches less memory.
    * ``p.grad`` is never written to.

    A subclass names its two states in ``moments`` and implements :meth:`update` (multi-tensor) and
    :meth:`update_one_by_one`.
    """

    moments: tuple[str, str] = ("exp_avg", "exp_avg_sq")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        for entry in params:
            p = entry[1] if isinstance(entry, tuple) else entry
            if isinstance(p, Tensor) and not p.is_floating_point():
                raise TypeError(f"{type(self).__name__} needs real floating point parameters, received {p.dtype}")
        super().add_param_group({**param_group, "params": params})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch, but the float32 state of low precision parameters is not rounded to the parameter's type."""
        super().load_state_dict(state_dict)
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for index, p in zip(saved, own, strict=True):
            if p.dtype not in LOW_PRECISION or index not in state_dict["state"]:
                continue
            for name, value in state_dict["state"][index].items():
                if name != "step":
                    self.state[p][name] = value.to(device=p.device, dtype=torch.float32, copy=True)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        first: list[Tensor],
        second: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        # The name and the lists to fill are torch's own: torch.compile runs a method called so outside the graph.
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                dtype = torch.float32 if p.dtype in LOW_PRECISION else p.dtype
                device = p.device if group["capturable"] else "cpu"
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
                for name in self.moments:
                    state[name] = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(p.grad)
            first.append(state[self.moments[0]])
            second.append(state[self.moments[1]])
            steps.append(state["step"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. ``closure`` re-evaluates the model and returns the loss, which is passed on.

        Raises:
            RuntimeError: a gradient is sparse; nothing has been updated then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    raise RuntimeError(
                        f"{type(self).__name__} has no rule for sparse gradients; use torch.optim.SparseAdam"
                    )
        for group in self.param_groups:
            found = Lists([], [], [], [], [])
            self._init_group(group, *found)
            if not found.params:
                continue
            torch._foreach_add_(found.steps, 1.0)
            by_list = self._takes_foreach(group, found.params)
            on_device = by_list and (torch.compiler.is_compiling() or group["capturable"])
            # Tensors while compiling or capturing (no sync, no recompilation), numbers otherwise (cheaper).
            steps = found.steps if on_device else [float(s) for s in found.steps]
            work = Lists(wide(found.params), wide(found.grads), found.first, found.second, steps)
            if by_list:
                self.update(group, work)
            else:
                self.update_one_by_one(group, work, Scratch(work.params))
            write_back(found.params, work.params)
        return loss

    @staticmethod
    def _takes_foreach(group: dict[str, Any], params: Iterable[Tensor]) -> bool:
        if group["foreach"] is not None:
            return bool(group["foreach"])
        if torch.compiler.is_compiling() or group["capturable"]:
            return True
        return not all(type(p) in (Tensor, torch.nn.Parameter) and p.device.type == "cpu" for p in params)

    def update(self, group: dict[str, Any], at: Lists) -> None:
        """Move ``at.params`` and both states by operations on whole lists."""
        raise NotImplementedError

    def update_one_by_one(self, group: dict[str, Any], at: Lists, scratch: Scratch) -> None:
        """The same for one tensor after the other."""
        raise NotImplementedError
