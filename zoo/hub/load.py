"""Verified tensors into a model: every key accounted for, nothing copied that can be mapped.

``load_into`` builds the model while the file is being hashed, without random initialisation (``zoo.hub.deferred``),
compares keys and shapes, applies the adaptations that were asked for, and gives each parameter the file's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.hub.deferred import DeferredInit
from zoo.hub.weights import WeightsFile

M = TypeVar("M", bound=nn.Module)
_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What became of every key: the file's and the model's.

    Args:
        label: what was loaded.
        loaded: keys whose tensor went from the file into the model unchanged.
        adapted: keys whose tensor was fitted first, with how.
        new: keys that the file does not hold, with why; they are initialised as in an ordinary construction.
        rejected: keys of the file that the model does not take, with why.
        share: part of the model's parameter values that come from the file.
        sha256: of the verified file, None where tensors were given directly.
    """

    label: str
    loaded: tuple[str, ...] = ()
    adapted: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)
    share: float = 0.0
    sha256: str | None = None

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} loaded"]
        parts += [f"{len(keys)} {what}" for what, keys in self._lists() if keys]
        return f"{self.label}: {', '.join(parts)}; {self.share:.1%} of the parameters from the file"

    def _lists(self) -> list[tuple[str, Mapping[str, str]]]:
        return [("adapted", self.adapted), ("new", self.new), ("rejected", self.rejected)]


def load_into(
    build: Callable[[], M],
    weights: WeightsFile | Mapping[str, Tensor],
    *,
    label: str = "",
    cfg: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    architecture: str | None = None,
    choices: Sequence[str] = (),
    strict: bool = True,
) -> tuple[M, LoadReport]:
    """Build a model and give it the weights.

    Args:
        build: makes the model on the CPU, without weights; called once, or twice if its construction reads values of
            parameters.
        weights: an open file (hashed meanwhile; nothing of it reaches the model before the verdict) or tensors.
        label: for messages and the report; default the label of the file's source.
        cfg: what the weights are, with timm's names: ``num_classes``, ``input_size``, ``first_conv``, ``classifier``,
            ``label_offset``. Only what stands here is adapted.
        num_classes: of the model; default: that of the weights. Another number makes the classifier *new*.
        in_chans: of the model; default: that of the weights. Another number adapts the first convolution.
        architecture: timm architecture whose checkpoint filter is applied where the file's plain keys do not fit.
        choices: what the user can lawfully ask for instead, named when the weights belong to another norm.
        strict: every key must be loaded, adapted or declared new; otherwise misfits are reported only.

    Returns:
        The model (training mode as built) and the report.

    Raises:
        IntegrityError: the file is not what was promised.
        WeightsError: keys or shapes that do not fit, weights of another norm.
    """
    label = label or (weights.source.label if isinstance(weights, WeightsFile) else "weights")
    with DeferredInit() as deferred:
        model = build()
    if isinstance(weights, WeightsFile):
        tensors, sha256 = weights.tensors(), weights.source.sha256
    else:
        tensors, sha256 = dict(weights), None
    slots = _slots(model)
    plan = _Plan(label, dict(cfg or {}), num_classes, in_chans, tuple(choices))
    fitted = plan.fit(model, slots, tensors, architecture)
    if strict:
        plan.demand(slots, fitted)
    new = [key for key in slots if key not in fitted]
    counted = plan.why_new(new, strict)
    if deferred.consumed or not all(deferred.replayable(slots[k]) for k in new):
        model = build()
        slots = _slots(model)
    else:
        for key in new:
            deferred.replay(slots[key])
    taken = _assign(slots, fitted)
    total = sum(p.numel() for p in model.parameters())
    report = LoadReport(
        label=label,
        loaded=tuple(k for k in slots if k in fitted and k not in plan.adapted),
        adapted=plan.adapted,
        new=counted,
        rejected=plan.rejected,
        share=taken / total if total else 1.0,
        sha256=sha256,
    )
    return model, report


def _slots(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by the names of ``state_dict``; a tied parameter stands under each name."""
    slots: dict[str, Tensor] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            slots[key] = value
    return slots


def _assign(slots: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> int:
    """Give every slot its tensor's memory; the Parameter objects stay, so ties, hooks and requires_grad do."""
    taken: dict[int, int] = {}
    for key, tensor in fitted.items():
        slot = slots[key]
        if isinstance(slot, nn.Parameter):
            taken[id(slot)] = slot.numel()
        if tensor.dtype != slot.dtype:
            tensor = tensor.to(slot.dtype)
        slot.data = tensor.to(slot.device) if tensor.device != slot.device else tensor
    return sum(taken.values())


class _Plan:
    """Which tensor goes where, and the reasons for those that do not."""

    def __init__(
        self,
        label: str,
        cfg: dict[str, Any],
        num_classes: int | None,
        in_chans: int | None,
        choices: tuple[str, ...],
    ) -> None:
        self.label, self.cfg, self.choices = label, cfg, choices
        self.had_classes = cfg.get("num_classes")
        self.classes = self.had_classes if num_classes is None else num_classes
        self.had_chans = (cfg.get("input_size") or (3,))[0]
        self.chans = self.had_chans if in_chans is None else in_chans
        self.adapted: dict[str, str] = {}
        self.rejected: dict[str, str] = {}

    @property
    def classifiers(self) -> tuple[str, ...]:
        names = self.cfg.get("classifier") or ()
        return (names,) if isinstance(names, str) else tuple(names)

    def fit(
        self, model: nn.Module, slots: Mapping[str, Tensor], tensors: dict[str, Tensor], architecture: str | None
    ) -> dict[str, Tensor]:
        found = self._adapt(model, slots, dict(tensors))
        if architecture is not None and self._misfits(slots, found):
            from zoo.hub.timm_filter import checkpoint_filter

            convert = checkpoint_filter(architecture)
            if convert is not None:
                self.adapted, self.rejected = {}, {}
                converted = convert(dict(tensors), model)
                how = f"converted by timm's filter of {architecture}"
                changed = {k: how for k, v in converted.items() if tensors.get(k) is not v}
                found = self._adapt(model, slots, dict(converted))
                self.adapted = {k: v for k, v in changed.items() if k in found} | self.adapted
        fitted = {}
        for key, tensor in found.items():
            if key in slots and slots[key].shape == tensor.shape:
                fitted[key] = tensor
            elif key in slots:
                self.rejected[key] = f"has shape {tuple(tensor.shape)}, the model needs {tuple(slots[key].shape)}"
            elif not (key.endswith(_COUNTER) and key.removesuffix(_COUNTER) + "running_mean" in slots):
                self.rejected[key] = "the model has no such key"
        self.adapted = {k: v for k, v in self.adapted.items() if k in fitted}
        _join_tied(slots, fitted)
        return fitted

    def _adapt(self, model: nn.Module, slots: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drop or trim the classifier, fit the first convolution: only what ``cfg`` declares and the caller asked."""
        first = getattr(model, "_traits", {}).get("first_conv", self.cfg.get("first_conv")) or ()
        for name in (first,) if isinstance(first, str) else first:
            key = f"{name}.weight"
            present = key in found and key in slots and self.chans != self.had_chans
            if present and found[key].shape != slots[key].shape:
                self._first_convolution(key, found)
        if not self.classifiers or self.had_classes is None:
            return found
        offset = self.cfg.get("label_offset") or 0
        for key in (f"{name}.{part}" for name in self.classifiers for part in ("weight", "bias")):
            if key not in found:
                continue
            if self.classes != self.had_classes:
                del found[key]
                self.rejected[key] = f"classifier of {self.had_classes} classes; the model has {self.classes}"
            elif offset:
                found[key] = found[key][offset:]
                self.adapted[key] = f"without the first {offset} classes, which the weights have besides"
        return found

    def _first_convolution(self, key: str, found: dict[str, Tensor]) -> None:
        from timm.models import adapt_input_conv

        try:
            found[key] = adapt_input_conv(self.chans, found[key], base_chans=self.had_chans)
        except (NotImplementedError, ValueError, AssertionError) as error:
            raise WeightsError(
                f"{self.label}: the first layer {key} cannot be adapted from {self.had_chans} to {self.chans} "
                f"input channels ({error})"
            ) from None
        self.adapted[key] = f"from {self.had_chans} to {self.chans} input channels"

    def _misfits(self, slots: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
        if any(k not in slots or slots[k].shape != v.shape for k, v in found.items()):
            return True
        return any(k not in found and not self._expected_new(k) for k in slots)

    def _expected_new(self, key: str) -> bool:
        owner = key.rpartition(".")[0]
        return key.endswith(_COUNTER) or (self.classes != self.had_classes and owner in self.classifiers)

    def why_new(self, keys: Sequence[str], strict: bool) -> dict[str, str]:
        reasons = {}
        for key in keys:
            if key.endswith(_COUNTER):
                reasons[key] = "a counter that starts at zero"
            elif self._expected_new(key):
                reasons[key] = f"classifier of {self.classes} classes; the weights have {self.had_classes}"
            else:
                reasons[key] = "not in the file"
        return reasons

    def demand(self, slots: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> None:
        """Raise unless each key of both sides is accounted for."""
        missing = [k for k in slots if k not in fitted and not self._expected_new(k)]
        surplus = [k for k, why in self.rejected.items() if not why.startswith("classifier of")]
        if not missing and not surplus:
            return
        self._norms(missing, surplus)
        problems = [f"{k}: {self.rejected[k]}" for k in surplus] + [f"{k}: not in the file" for k in missing]
        shown = "\n".join(f"  {p}" for p in problems[:10])
        more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        hint = ""
        if self.classes is not None and any(k.rpartition(".")[0] in self.classifiers for k in missing + surplus):
            hint = " Ask for num_classes= explicitly to get a new classifier."
        raise WeightsError(
            f"{self.label}: {len(problems)} keys do not fit the model.{hint} Nothing was loaded.\n{shown}{more}"
        )

    def _norms(self, missing: Sequence[str], surplus: Sequence[str]) -> None:
        theirs = any(k.endswith(_STATISTICS) for k in surplus)
        ours = any(k.endswith(_STATISTICS) for k in missing)
        if theirs == ours:
            return
        had, has = ("batch norm", "another norm") if theirs else ("a norm without running statistics", "batch norm")
        lawful = ", ".join(self.choices) if self.choices else "pretrained=False, or the model without norm="
        raise WeightsError(
            f"{self.label}: these weights were trained with {had}, the model has {has}; loading them would be silently "
            f"wrong. Choose: {lawful}."
        )


def _join_tied(slots: Mapping[str, Tensor], fitted: dict[str, Tensor]) -> None:
    """A parameter that stands under two names needs only one of them in the file."""
    by_slot = {id(slots[k]): t for k, t in fitted.items()}
    for key, slot in slots.items():
        if key not in fitted and id(slot) in by_slot:
            fitted[key] = by_slot[id(slot)]
