"""From the names of a recipe to network, algorithm, optimizer and schedule."""

from __future__ import annotations

import inspect
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

import zoo
from zoo.errors import ZooError
from zoo.factory.backbone import build
from zoo.factory.targets import load_target, parameters_of
from zoo.noisy_labels.base import Algorithm, Supervised
from zoo.training import names
from zoo.training.data import Data
from zoo.training.noise import transition_matrix
from zoo.training.recipe import Loaded, ModelPart


def arguments_of(part: ModelPart, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """What the network is built with: the recipe's arguments, then those that the data decide and the network takes."""
    arguments, own = dict(part.args), ":" in part.name
    takes = parameters_of(load_target(part.name)) if own else {}
    offered = {"num_classes": classes, "in_chans": shape[0], "in_features": math.prod(shape)}
    for key, value in offered.items():
        if key in takes or (not own and key != "in_features"):
            arguments.setdefault(key, value)
    return arguments


def make_model(loaded: Loaded, data: Data, seed: int) -> nn.Module:
    """The network of the recipe, with the classes and channels of the data, drawn by ``seed``.

    Raises:
        RecipeError: it cannot be built, or its output is not ``(N, number of classes)``.
    """
    part, (channels, height, width) = loaded.recipe.model, data.shape
    swaps = cast(dict[str, Any], part.swaps)
    own = ":" in part.name
    arguments = arguments_of(part, data.shape, len(data.classes))
    torch.manual_seed(seed)
    try:
        if own:
            model = build(part.name, arguments)
            if swaps:
                zoo.swap(model, **swaps)
        else:
            model = zoo.create(part.name, **swaps, **arguments)
        if not isinstance(model, nn.Module):
            raise ZooError(f"{part.name} is a {type(model).__name__}, no network")
        model.eval()
        with torch.no_grad():
            output = model(torch.zeros(2, channels, height, width))
    except (ZooError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        problem = f"{part.name} with {channels} x {height} x {width} images: {error}"
        raise loaded.error(("model",), problem) from error
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (2, len(data.classes)):
        raise loaded.error(
            ("model",), f"the data have {len(data.classes)} classes, the network maps 2 images to {shape}"
        )
    return model.train()


def make_algorithm(loaded: Loaded, data: Data) -> Algorithm:
    """The training method around a fresh network; what it asks for by name (number of samples, classes) is supplied.

    Raises:
        RecipeError: arguments that the method refuses.
    """
    recipe = loaded.recipe
    training = names.training(recipe.method)
    model = make_model(loaded, data, recipe.seed)
    given, k = dict(training.parameters), len(data.classes)
    takes = parameters_of(training.target)
    if given.get("T") == "noise" and recipe.noise is not None and recipe.noise.rate is not None:
        seed = recipe.seed if recipe.noise.seed is None else recipe.noise.seed
        given["T"] = transition_matrix(recipe.noise.name, recipe.noise.rate, k, seed)
    if "prior" in takes and "prior" not in given:
        given["prior"] = torch.bincount(data.train.labels.cpu(), minlength=k).float()
    if "num_classes" in takes:
        given.setdefault("num_classes", k)
    try:
        if not training.is_algorithm:
            loss = nn.CrossEntropyLoss(**given) if training.method is None else zoo.create(training.method.id, **given)
            return Supervised(model, loss, num_samples=len(data.train))
        assert training.method is not None
        if "num_samples" in takes:
            given.setdefault("num_samples", len(data.train))
        if "peer_model" in takes:
            given["peer_model"] = make_model(loaded, data, recipe.seed + 1_000_003)
        algorithm = zoo.create(training.method.id, model, **given)
    except (ZooError, ValueError, TypeError) as error:
        if "problem" in str(error)[:12]:
            raise
        raise loaded.error(("method",), f"{training.name}: {error}") from error
    if not isinstance(algorithm, Algorithm):
        raise loaded.error(
            ("method",), f"{training.name} is a {type(algorithm).__name__}, which this loop cannot drive"
        )
    return algorithm


def make_optimizer(loaded: Loaded, algorithm: Algorithm) -> torch.optim.Optimizer:
    """The optimizer over what the algorithm trains; ``decay_1d: false`` spares biases and gains the decay."""
    name, given, method = names.optimizer(loaded.recipe.optimizer)
    network = algorithm.get_trainable_module()
    assert network is not None
    params: Any = [p for p in network.parameters() if p.requires_grad]
    if not loaded.recipe.decay_1d:
        flat = [p for p in params if p.ndim <= 1]
        params = [{"params": [p for p in params if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0}]
    try:
        return names.OPTIMIZERS[name](params, **given) if method is None else zoo.create(method.id, params, **given)
    except (ZooError, ValueError, TypeError) as error:
        raise loaded.error(("optimizer",), f"{name}: {error}") from error


def make_schedule(loaded: Loaded, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """A schedule that is stepped after every batch; lengths in the recipe are epochs of ``steps`` batches.

    Raises:
        RecipeError: arguments that the schedule refuses.
    """
    name, given, method = names.schedule(loaded.recipe.schedule)
    total = steps * loaded.recipe.epochs
    try:
        if method is not None:
            takes = inspect.signature(load_target(method.target)).parameters
            merged = {**{k: v for k, v in method.defaults.items() if k in takes}, **given}
            for length in {
                "T_0",
                "warm_up",
            } & merged.keys():  # integer steps: restarts fall on the same batch everywhere
                merged[length] = round(float(merged[length]) * steps)
            return zoo.create(method.id, optimizer, **merged)
        if name == "one_cycle":
            peak = given.pop("max_lr", optimizer.param_groups[0]["lr"])
            return OneCycleLR(optimizer, peak, total_steps=total, **given)
        return LambdaLR(optimizer, factor(name, given, steps, total))
    except (ZooError, ValueError, TypeError) as error:
        raise loaded.error(("schedule",), f"{name}: {error}") from error


def factor(name: str, given: dict[str, Any], steps: int, total: int) -> Any:
    """Step to the factor of the learning rate, for ``constant``, ``cosine`` and ``multi_step`` with linear warm-up."""
    warmup = round(float(given.get("warmup", 0)) * steps)
    if not 0 <= warmup < total:
        raise ValueError(f"warmup lies in [0, epochs), received {given.get('warmup')}")
    final, gamma = float(given.get("final", 0.0)), float(given.get("gamma", 0.1))
    milestones = [round(float(m) * steps) for m in given.get("milestones", ())]
    if name == "multi_step" and not milestones:
        raise ValueError("milestones lists the epochs after which the rate is multiplied by gamma")

    def at(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if name == "cosine":
            share = (step - warmup) / max(1, total - warmup)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return gamma ** sum(step >= m for m in milestones) if name == "multi_step" else 1.0

    return at
