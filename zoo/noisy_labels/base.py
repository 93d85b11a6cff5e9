"""What the methods of this category share: a loss per sample, and an algorithm that a loop calls like timm's tasks."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.task import TrainingTask
from torch import Tensor, nn

from zoo.numerics import classes, wide, without_autocast

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Mean, sum or nothing."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def checked(logits: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The logits in at least float32 and int64 classes, after a look at the shapes: ``(N, K)`` with ``(N,)``."""
    if logits.ndim != 2 or target.ndim != 1 or logits.shape[0] != target.shape[0]:
        raise ValueError(
            f"{name} takes logits (N, K) and classes (N,), received {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    return wide(logits), classes(target, name)


class Criterion(nn.Module):
    """A loss of ``(logits, target)``; a method writes :meth:`per_sample` only.

    Args:
        reduction: ``mean``, ``sum`` or ``none``.

    Raises:
        ValueError: unknown reduction, or shapes other than ``(N, K)`` and ``(N,)``.
        TypeError: a target that is not of integers.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, received {reduction!r}")
        self.reduction = reduction

    def per_sample(self, logits: Tensor, target: Tensor) -> Tensor:
        """``(N, K)``, ``(N,)`` to ``(N,)``; the logits are float32 or wider, the classes int64."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked(logits, target, type(self).__name__)
        with without_autocast(logits.device.type):
            return reduce(self.per_sample(logits, target), self.reduction)


def _with_classes(algorithm: Algorithm, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before each step: labels of any integer type, those of clean and peer batches too, or a clear error."""
    name = type(algorithm).__name__
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if isinstance(target, Tensor) and target.dtype != torch.int64 and not algorithm.takes_soft_targets:
        target = classes(target, name)
        args, kwargs = ((args[0], target, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "target": target})
    for key in ("meta_batch", "peer"):
        if kwargs.get(key) is not None and kwargs[key][1].dtype != torch.int64:
            kwargs = {**kwargs, key: (kwargs[key][0], classes(kwargs[key][1], f"{key} of {name}"))}
    return args, kwargs


class Algorithm(TrainingTask):
    """A training method that wraps the network: ``forward(input, target, **extra) -> {"loss", "output", ...}``.

    It is a :class:`timm.task.TrainingTask`: ``trainable_module`` holds what the optimizer steps, the loss is one
    scalar and wants one ``backward()``. ``needs`` names the extra keyword arguments:

    ============== ====================================================================================
    ``index``      ``(N,)`` int64, the position of each sample in the data set
    ``meta_batch`` ``(input, target)`` of clean samples
    ``peer``       ``(input, target)`` drawn independently of each other and of the batch
    ``epoch``      float, epochs done so far
    ``lr``         float, the learning rate of this step
    ``features``   the network must have timm's ``forward_features`` and ``forward_head``
    ``epoch_pass`` :meth:`start_epoch` gets ``batches``: ``(input, target, index)`` over the training set
    ============== ====================================================================================

    Args:
        model: the network, ``(N, *) -> (N, K)`` logits.
        num_samples: size of the training set; with it, batches with ``index`` are remembered for :meth:`suspects`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    takes_soft_targets: ClassVar[bool] = False
    #: Evaluates the network at other parameters than its own, which needs whole ones.
    looks_ahead: ClassVar[bool] = False
    trainable_module: Any
    trust: Tensor | None

    def __init__(self, model: nn.Module, num_samples: int | None = None) -> None:
        first = next(model.parameters(), None)
        super().__init__(device=None if first is None else first.device, verbose=False)
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples is the size of the training set, received {num_samples}")
        self.trainable_module = model
        self.num_samples = num_samples
        self.register_forward_pre_hook(_with_classes, with_kwargs=True)
        self.register_buffer("trust", None if num_samples is None else torch.full((num_samples,), torch.nan))

    def extra(self, name: str, value: Any) -> Any:
        """``value``, or an error that says what the loop did not supply."""
        if value is None:
            raise ValueError(f"{type(self).__name__} needs {name!r} in every batch: call it with {name}=...")
        return value

    @torch.no_grad()
    def remember(self, index: Tensor | None, trust: Tensor, momentum: float = 0.7) -> None:
        """Average how far the method trusts each label; the first sighting counts in full."""
        if index is None or self.trust is None:
            return
        trust, old = trust.detach().to(self.trust.dtype), self.trust[index]
        self.trust[index] = torch.where(old.isnan(), trust, momentum * old + (1 - momentum) * trust)

    def suspects(self, k: int | None = None) -> Tensor:
        """Indices of the training set, the least trusted label first; samples never seen are left out.

        Args:
            k: how many; all by default.

        Raises:
            RuntimeError: nothing was remembered (no ``num_samples``, or no batch with ``index`` yet), or the method cannot tell.
        """
        if "num_samples" not in inspect.signature(type(self).__init__).parameters:
            raise RuntimeError(f"{type(self).__name__} does not tell which labels it distrusts")
        if self.trust is None or bool(self.trust.isnan().all()):
            raise RuntimeError(
                f"{type(self).__name__} has seen no sample by index: construct it with num_samples=... "
                "and pass index=... in every batch"
            )
        order = self.trust.nan_to_num(nan=torch.inf).argsort(stable=True)
        seen = int((~self.trust.isnan()).sum())
        return order[: seen if k is None else min(k, seen)]

    def start_epoch(self, epoch: int, **extra: Any) -> None:
        """Before each epoch; schedules and passes over the data hook in here."""

    def after_step(self) -> None:
        """After each optimizer step; teachers and projections hook in here."""

    def prepare_distributed(self, device_ids: list[int] | None = None, **ddp_kwargs: Any) -> Algorithm:
        """Wrap ``trainable_module`` in DistributedDataParallel; a method that must not overrides this."""
        from torch.nn.parallel import DistributedDataParallel

        self.trainable_module = DistributedDataParallel(self.trainable_module, device_ids=device_ids, **ddp_kwargs)
        return self


class Supervised(Algorithm):
    """Any criterion as an algorithm, so that plain losses rank suspects too: the larger the loss, the more suspect.

    Args:
        model: ``(N, *) -> (N, K)``.
        criterion: called as ``criterion(logits, target)``; cross-entropy by default.
        num_samples: see :class:`Algorithm`.
    """

    takes_soft_targets: ClassVar[bool] = True  # the criterion's business

    def __init__(self, model: nn.Module, criterion: nn.Module | None = None, num_samples: int | None = None) -> None:
        super().__init__(model, num_samples)
        self.criterion = nn.CrossEntropyLoss() if criterion is None else criterion

    def forward(self, input: Tensor, target: Tensor, index: Tensor | None = None, **extra: Any) -> dict[str, Tensor]:
        output = self.trainable_module(input)
        if index is not None:
            self.remember(index, -F.cross_entropy(wide(output.detach()), target, reduction="none"))
        return {"loss": self.criterion(output, target), "output": output}


class Pair(nn.Module):
    """Two networks that one optimizer steps: ``(2, N, K)`` in training, the first one's ``(N, K)`` in evaluation."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.nets = nn.ModuleList([first, second])

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self.nets[0](input)
        return torch.stack([self.nets[0](input), self.nets[1](input)])


def fresh_copy(model: nn.Module) -> nn.Module:
    """A copy with parameters drawn anew by every module's own ``reset_parameters``.

    Raises:
        ValueError: a module owns parameters but has no ``reset_parameters``: two equal networks would never disagree.
    """
    other = copy.deepcopy(model)
    for name, module in other.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if not callable(getattr(module, "reset_parameters", None)):
            raise ValueError(
                f"{name or 'the model'} ({type(module).__name__}) cannot be drawn anew: pass the second network"
            )
        module.reset_parameters()  # type: ignore[operator]
    return other
