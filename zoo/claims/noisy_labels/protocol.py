"""One protocol for label noise on real digits: flipped training labels, clean test labels, last AND best accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, batches
from zoo.noisy_labels.base import Algorithm, Supervised
from zoo.training.noise import clean_split, noisy_labels

SGD = "SGD lr 0.1, momentum 0.9, weight decay 1e-4, constant, 100 epochs"
ADAMW = "AdamW lr 1e-3, weight decay 0.05, gradient clipping at 1, constant, 100 epochs"
DATA = "digits, 1197 training labels with {noise}, 600 clean test images, MLP 64-256-256-10, batch 128"
#: Makes an algorithm from the network and the size of the training set.
Make = Callable[[nn.Module, int], Algorithm]


class Run(NamedTuple):
    """Percent: test accuracy in the last and in the best epoch, share of the wrong labels that the network predicts."""

    last: float
    best: float
    fitted: float
    precision: float  # of suspects(k = number of wrong labels); nan where the method ranks nothing


def mlp(seed: int, width: int = 256) -> nn.Sequential:
    torch.manual_seed(seed)
    hidden = [nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def criterion(loss: Callable[[], nn.Module]) -> Make:
    """A plain loss as an algorithm."""
    return lambda model, n: Supervised(model, loss(), num_samples=n)


def run(
    make: Make,
    seed: int,
    *,
    noise: str = "symmetric_exclusive",
    rate: float = 0.4,
    recipe: str = SGD,
    epochs: int = 100,
    clean_per_class: int = 0,
    batch_size: int = 128,
) -> Run:
    """Train one network; the algorithm gets exactly what its ``needs`` names. Clean meta samples are held out."""
    data = digits(test=600, seed=seed)
    x, truth = data.x_train, data.y_train
    meta: tuple[Tensor, Tensor] | None = None
    if clean_per_class:
        keep, held = clean_split(truth, clean_per_class, 10, seed)
        meta, x, truth = (x[held], truth[held]), x[keep], truth[keep]
    y = noisy_labels(truth, noise, rate, 10, seed)
    wrong = y != truth
    task = make(mlp(seed), len(x))
    net = task.get_trainable_module()
    assert net is not None
    optimizer: torch.optim.Optimizer
    if recipe == SGD:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    lr = optimizer.param_groups[0]["lr"]
    generator = torch.Generator().manual_seed(seed)
    best = 0.0
    for epoch in range(epochs):
        task.train()
        extra: dict[str, Any] = {}
        if "epoch_pass" in task.needs:
            extra["batches"] = [(x, y, torch.arange(len(x)))]
        task.start_epoch(epoch, **extra)
        for index in batches(len(x), batch_size, generator):
            given = {"index": index, "epoch": epoch, "lr": lr, "meta_batch": meta}
            if "peer" in task.needs:
                first, second = (torch.randint(len(x), (len(index),), generator=generator) for _ in range(2))
                given["peer"] = (x[first], y[second])
            given = {k: v for k, v in given.items() if k in task.needs or k == "index"}
            loss = task(x[index], y[index], **given)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe == ADAMW:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            task.after_step()
        last = accuracy(net, data.x_test, data.y_test)
        best = max(best, last)
    fitted, precision = accuracy(net, x[wrong], y[wrong]), float("nan")
    if task.trust is not None and bool(task.trust.isfinite().any()):
        precision = 100 * float(wrong[task.suspects(int(wrong.sum()))].float().mean())
    return Run(last, best, fitted, precision)


@lru_cache(maxsize=16)
def cross_entropy(seed: int, **setting: Any) -> Run:
    """The baseline under the same protocol; claims of one process share it."""
    return run(criterion(nn.CrossEntropyLoss), seed, **setting)


def several(make: Make, seeds: Sequence[int], **setting: Any) -> list[Run]:
    return [run(make, seed, **setting) for seed in seeds]


def baseline(seeds: Sequence[int], **setting: Any) -> list[Run]:
    return [cross_entropy(seed, **setting) for seed in seeds]


def figures(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Mean and spread of every column that was measured."""
    columns = {name: [getattr(r, name) for r in runs] for name in Run._fields}
    return {name: mean_and_spread(v) for name, v in columns.items() if all(a == a for a in v)}


def mean(runs: Sequence[Run], field: str) -> float:
    return sum(getattr(r, field) for r in runs) / len(runs)


def setting(recipe: str = SGD, noise: str = "40 % symmetric_exclusive flips") -> str:
    return f"{DATA.format(noise=noise)}; {recipe}"


def resists(
    make: Make,
    seeds: Sequence[int],
    *,
    ahead: float = 10.0,
    fitted: float | None = 15.0,
    recipe: str = SGD,
    **more: Any,
) -> Outcome:
    """Does a method keep its accuracy under 40 % flips where cross-entropy, trained the same way, memorises them?

    Args:
        make: the method.
        ahead: points in the last epoch that it must lead by.
        fitted: share of wrong labels, in percent, that it may predict at most; None: not asked.
        recipe: :data:`SGD` or :data:`ADAMW`.
        more: further settings of :func:`run`, for both.
    """
    ours, ce = several(make, seeds, recipe=recipe, **more), baseline(seeds, recipe=recipe, **more)
    holds = [mean(ours, "last") >= mean(ce, "last") + ahead]
    wording = f"last-epoch accuracy at least {ahead:g} points above cross-entropy"
    if fitted is not None:
        # A network that learned nothing predicts few wrong labels too; that is no resistance.
        holds.append(mean(ours, "fitted") <= fitted and mean(ours, "last") >= mean(ce, "last"))
        wording += f"; at most {fitted:g} % of the wrong labels predicted, at no loss of accuracy"
    what = setting(recipe) + "".join(f"; {name} {value}" for name, value in more.items())
    return Outcome(verdict(*holds), {"method": figures(ours), "cross_entropy": figures(ce)}, what, wording)
