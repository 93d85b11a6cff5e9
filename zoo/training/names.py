"""What the names of a recipe mean, and the problems that show before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from zoo.errors import UnknownName, suggestion
from zoo.factory.targets import load_target, parameters_of
from zoo.registry.lookup import registry
from zoo.registry.schema import Method
from zoo.training.recipe import Recipe, Where, spec

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
}  # fmt: skip
#: Schedules that are functions of the step; lengths are in epochs.
SCHEDULES: dict[str, tuple[str, ...]] = {
    "constant": ("warmup",),
    "cosine": ("warmup", "final"),
    "multi_step": ("milestones", "gamma", "warmup"),
    "one_cycle": ("max_lr", "pct_start", "div_factor", "final_div_factor"),
}
AUGMENTATIONS: dict[str, tuple[str, ...]] = {"shift": ("pixels",), "flip": ()}
#: Categories whose losses and algorithms take class scores and one label a sample, which is what a recipe trains on.
CLASSIFYING = ("noisy_labels", "losses")
#: Arguments of a method that the engine supplies.
SUPPLIED = ("model", "peer_model", "num_samples", "criterion")


@dataclass(frozen=True)
class Training:
    """A training method by name: ``algorithm`` is None for a plain loss; ``target`` is None for cross-entropy."""

    name: str
    parameters: dict[str, Any]
    method: Method | None

    @property
    def target(self) -> Any:
        return torch.nn.CrossEntropyLoss if self.method is None else load_target(self.method.target)

    @property
    def is_algorithm(self) -> bool:
        return self.method is not None and self.method.kind == "algorithm"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(getattr(self.target, "needs", ()) if self.is_algorithm else ())


def of_kind(*kinds: str, categories: tuple[str, ...] = ()) -> list[str]:
    """Ids of the registry's methods of these kinds, in these categories if any are named."""
    raw = registry().raw
    found = [(n, raw.papers[m["paper"]]["category"]) for n, m in raw.methods.items() if m["kind"] in kinds]
    return [n for n, category in found if not categories or category in categories]


def _method(
    name: str, kinds: tuple[str, ...], plain: tuple[str, ...], what: str, categories: tuple[str, ...] = ()
) -> Method | None:
    """The registry's record; None for a plain name."""
    if name in plain:
        return None
    known = registry()
    allowed = [*plain, *of_kind(*kinds, categories=categories)]
    try:
        identity = known.method_for(name)
    except UnknownName:
        raise UnknownName(what, name, allowed, f"One of: {', '.join(allowed)}.") from None
    method = known.method(identity)
    if method.kind not in kinds:
        raise UnknownName(what, name, allowed, f"{identity!r} is of kind {method.kind}.")
    category = known.paper(method.paper).category
    if categories and category not in categories:
        raise UnknownName(
            what,
            name,
            allowed,
            f"{identity!r} ({category}) needs more than class scores and labels. One of: {', '.join(allowed)}.",
        )
    return method


def training(value: Any) -> Training:
    """The method behind ``method: elr``.

    Raises:
        UnknownName: no loss or algorithm of that name.
    """
    name, parameters = spec(value)
    return Training(
        name, parameters, _method(name, ("algorithm", "loss"), ("cross_entropy", "ce"), "training method", CLASSIFYING)
    )


def optimizer(value: Any) -> tuple[str, dict[str, Any], Method | None]:
    """Name, parameters and registry record of an optimizer; no record for torch's own."""
    name, parameters = spec(value)
    return name, parameters, _method(name, ("optimizer",), tuple(OPTIMIZERS), "optimizer")


def schedule(value: Any) -> tuple[str, dict[str, Any], Method | None]:
    """Name, parameters and registry record of a schedule; no record for those of :data:`SCHEDULES`."""
    name, parameters = spec(value)
    return name, parameters, _method(name, ("schedule",), tuple(SCHEDULES), "schedule")


def augmentation(value: Any) -> tuple[str, dict[str, Any], Method | None]:
    """Name, parameters and registry record of an augmentation; no record for those of :data:`AUGMENTATIONS`."""
    name, parameters = spec(value)
    return name, parameters, _method(name, ("augmentation",), tuple(AUGMENTATIONS), "augmentation")


# --------------------------------------------------------------------------- checks


def problems(recipe: Recipe) -> Iterator[tuple[Where, str]]:
    """Each problem that names, parameters and fields together have."""
    yield from _noise_problems(recipe)
    yield from _method_problems(recipe)
    yield from _optimizer_problems(recipe)
    for where, value, resolve, known in [
        (("schedule",), recipe.schedule, schedule, SCHEDULES),
        *((("augment", i), value, augmentation, AUGMENTATIONS) for i, value in enumerate(recipe.augment)),
    ]:
        try:
            name, parameters, method = resolve(value)  # type: ignore[operator]
        except UnknownName as error:
            yield where, str(error)  # type: ignore[misc]
            continue
        allowed = known[name] if method is None else _names(load_target(method.target), {"optimizer"})  # type: ignore[index]
        yield from _unknown((*where, name), name, parameters, allowed)  # type: ignore[misc]


def _noise_problems(recipe: Recipe) -> Iterator[tuple[Where, str]]:
    from zoo.training.noise import GENERATORS

    known = (*GENERATORS, "cifar_n")
    if recipe.noise is not None and recipe.noise.name not in known:
        name = recipe.noise.name
        yield ("noise", "name"), f"unknown noise {name!r}.{suggestion(name, known)} Allowed: {', '.join(known)}."


def _method_problems(recipe: Recipe) -> Iterator[tuple[Where, str]]:
    try:
        found = training(recipe.method)
    except UnknownName as error:
        yield ("method",), str(error)
        return
    yield from _unknown(("method", found.name), found.name, found.parameters, _names(found.target, set(SUPPLIED)))
    if recipe.parallel == "fsdp2" and found.is_algorithm and getattr(found.target, "looks_ahead", False):
        yield (
            ("method",),
            f"{found.name} evaluates the network at other parameters than its own, which needs whole parameters, and "
            "parallel: fsdp2 leaves each process a part; take parallel: ddp",
        )
    if "meta_batch" in found.needs and not recipe.data.clean_per_class:
        yield (
            ("data",),
            f"{found.name} needs a clean set: data.clean_per_class says how many samples of each class are held out for it",
        )
    if found.parameters.get("T") == "noise":
        where = ("method", found.name, "T")
        if recipe.noise is None:
            yield where, "'noise' means the matrix of the recipe's noise, and there is no noise"
        elif recipe.noise.name in ("cifar_n", "instance_dependent"):
            yield where, f"'noise' means the matrix of the recipe's noise, and {recipe.noise.name} has none"


def _optimizer_problems(recipe: Recipe) -> Iterator[tuple[Where, str]]:
    try:
        name, parameters, method = optimizer(recipe.optimizer)
    except UnknownName as error:
        yield ("optimizer",), str(error)
        return
    target = OPTIMIZERS[name] if method is None else load_target(method.target)
    yield from _unknown(("optimizer", name), name, parameters, _names(target, {"params"}))
    if method is None:
        return
    if recipe.parallel == "fsdp2" and method.shard_safe is not True:
        yield (
            ("optimizer",),
            f"{method.id} {'is not' if method.shard_safe is False else 'is not known to be'} right on shards: its update "
            "looks at a whole parameter (norms, directions), and parallel: fsdp2 leaves it a part; take parallel: ddp",
        )
    if "parameter_groups" in method.needs:
        yield ("optimizer",), f"{method.id} needs parameter groups of its own, which a recipe cannot express"


def _names(target: Any, without: set[str]) -> tuple[str, ...]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return tuple(n for n, p in parameters_of(target).items() if p.kind not in variable and n not in without)


def _unknown(where: Where, name: str, given: dict[str, Any], allowed: tuple[str, ...]) -> Iterator[tuple[Where, str]]:
    for key in given:
        if key not in allowed:
            takes = f"It takes: {', '.join(allowed)}." if allowed else "It takes none."
            yield (*where, key), f"{name} takes no argument {key!r}.{suggestion(key, allowed)} {takes}"
