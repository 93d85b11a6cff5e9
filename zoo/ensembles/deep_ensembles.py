"""Deep ensembles: networks from different random starts, probabilities averaged (Lakshminarayanan et al., 1612.01474)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.task import TrainingTask
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from zoo.numerics import wide


def log_mean_probability(logits: Tensor) -> Tensor:
    """``(M, N, K)`` logits (or log-probabilities) to the log of the mean of the M probabilities, ``(N, K)``."""
    return wide(logits).log_softmax(2).logsumexp(0) - math.log(len(logits))


class VmappedMembers(nn.Module):
    """M networks of one shape as stacked parameters, called in one vectorised pass: ``(N, *) -> (M, N, K)``.

    Args:
        members: networks of the same structure. BatchNorm with running statistics is not supported in training (its
            statistics would be written inside vmap); use another norm.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        params, buffers = stack_module_state(list(members))
        self.names, self.buffer_names = list(params), list(buffers)
        self.weights = nn.ParameterList([nn.Parameter(params[n].detach().clone()) for n in self.names])
        for i, name in enumerate(self.buffer_names):
            self.register_buffer(f"state{i}", buffers[name])
        # A shell without storage; hidden in a list so that its parameters are not ours.
        self._shell = [copy.deepcopy(members[0]).to("meta")]
        self.num_members = len(members)

    def forward(self, input: Tensor) -> Tensor:
        params = dict(zip(self.names, self.weights, strict=True))
        buffers = {n: getattr(self, f"state{i}") for i, n in enumerate(self.buffer_names)}
        shell = self._shell[0].train(self.training)

        def one(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
            return functional_call(shell, (p, b), (input,))

        return torch.func.vmap(one, randomness="different")(params, buffers)


class DeepEnsemble(TrainingTask):
    r"""M networks trained side by side on the same batches; predicts :math:`\frac1M \sum_m p_m(y \mid x)`.

    Args:
        model: the first member.
        num_members: M (paper: 5); the others are copies with parameters drawn anew.
        members: all members instead, of any structure.
        vmapped: keep them as stacked parameters in one vectorised pass; needs equal structures.

    ``forward(input, target)``: the loss is the sum of the members' cross-entropies, so that each member's gradient is what it
    would be alone. ``output`` is the log of the mean probability, which serves as logits.

    Raises:
        ValueError: fewer than one member, or a module that cannot be drawn anew.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        num_members: int = 5,
        members: Sequence[nn.Module] | None = None,
        vmapped: bool = False,
    ) -> None:
        if members is None:
            if model is None or num_members < 1:
                raise ValueError(f"deep_ensembles needs a model and num_members >= 1, received {num_members}")
            members = [model, *(_drawn_anew(model) for _ in range(num_members - 1))]
        first = next(members[0].parameters(), None)
        super().__init__(device=None if first is None else first.device, verbose=False)
        self.trainable_module: nn.Module = VmappedMembers(members) if vmapped else Members(members)

    def forward(self, input: Tensor, target: Tensor, **extra: Any) -> dict[str, Tensor]:
        logits = self.trainable_module(input)
        m, n, k = logits.shape
        log_p = wide(logits).log_softmax(2)  # once, for the loss and for the mean
        loss = F.nll_loss(log_p.reshape(m * n, k), target.repeat(m), reduction="sum") / n
        return {"loss": loss, "output": log_p.logsumexp(0) - math.log(m), "members": logits}


class Members(nn.Module):
    """Networks called one after the other: ``(N, *) -> (M, N, K)``."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(members)

    def forward(self, input: Tensor) -> Tensor:
        return torch.stack([net(input) for net in self.nets])


def _drawn_anew(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    for module in other.modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if not callable(getattr(module, "reset_parameters", None)):
            raise ValueError(f"{type(module).__name__} cannot be drawn anew: pass members=[...] instead")
        module.reset_parameters()  # type: ignore[operator]
    return other
