"""Claims of Adaptive Gradient Methods with Dynamic Bound of Learning Rate (AdaBound, AMSBound)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.optimizers._net import mlp
from zoo.claims.train import accuracy, fit
from zoo.optimizers.adabound import AdaBound, AMSBound


def fast_and_good(seeds: Sequence[int]) -> Outcome:
    """As fast as Adam at the start, as good as SGD at the end? Digits, the paper's hyperparameters."""
    data = digits()
    first: dict[str, list[float]] = {}
    last: dict[str, list[float]] = {}
    for name, make in (
        ("AdaBound", AdaBound),
        ("AMSBound", AMSBound),
        ("Adam", torch.optim.Adam),
        ("SGD", lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9)),
    ):
        for seed in seeds:
            model = mlp(seed)
            history = fit(
                model,
                data.x_train,
                data.y_train,
                epochs=20,
                batch_size=32,
                seed=seed,
                optimizer=make(model.parameters()),
            )
            first.setdefault(name, []).append(history[0])
            last.setdefault(name, []).append(accuracy(model, data.x_test, data.y_test))
    mean = {name: sum(v) / len(v) for name, v in last.items()}
    loss = {name: sum(v) / len(v) for name, v in first.items()}
    return Outcome(
        status=verdict(
            loss["AdaBound"] < 1.1 * loss["Adam"],
            mean["AdaBound"] > mean["SGD"] - 0.3,
            mean["AMSBound"] > mean["SGD"] - 0.3,
        ),
        measured={
            **{f"{name}, loss of epoch 1": mean_and_spread(v) for name, v in first.items()},
            **{f"{name}, test accuracy %": mean_and_spread(v) for name, v in last.items()},
        },
        setting="digits 8x8, MLP, batch 32, 20 epochs; lr 1e-3 with final 0.1, Adam 1e-3, SGD 0.1 momentum 0.9",
        tolerance="first-epoch loss at most 1.1 times Adam's; final accuracy of each at most 0.3 points below SGD's",
    )
