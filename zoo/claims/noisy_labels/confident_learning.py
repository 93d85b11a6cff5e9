"""Claims of confident learning (arXiv 1911.00068), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import batches, fit
from zoo.noisy_labels.co_teaching import CoTeaching
from zoo.noisy_labels.confident_learning import confident_learning
from zoo.noisy_labels.elr import ELR
from zoo.training.noise import noisy_labels
from zoo.training.report import ranking


def finds_flips(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Precision and recall of the flagged samples at 20 % flips, from five-fold predictions of a small network."""
    precision, recall = [], []
    for seed in seeds:
        data = digits(seed=seed)
        given = noisy_labels(data.y_train, "symmetric_exclusive", 0.2, 10, seed)
        wrong = given != data.y_train

        def train(model: nn.Module, x: Tensor, y: Tensor, seed: int = seed) -> None:
            fit(model, x, y, epochs=15, lr=0.05, seed=seed)

        found = confident_learning(p.mlp(seed, 64), data.x_train, given, train, seed=seed).suspects
        precision.append(100 * float(wrong[found].float().mean()))
        recall.append(100 * float(wrong[found].sum() / wrong.sum()))
    return Outcome(
        verdict(sum(precision) / len(precision) > 80, sum(recall) / len(recall) > 80),
        {"precision": mean_and_spread(precision), "recall": mean_and_spread(recall)},
        "digits, 1297 labels with 20 % symmetric_exclusive flips, MLP 64-64-64-10, SGD lr 0.05, 15 epochs, five folds",
        "precision and recall above 80 %",
    )


def training_ranks_as_well(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Suspects of single trainings against confident learning's ranking by self-confidence from five trainings.

    Both rank all training samples, at 40 % flips; precision equals recall at k, the number of wrong labels.
    """
    found: dict[str, list[float]] = {}
    for seed in seeds:
        data = digits(test=600, seed=seed)
        x, given = data.x_train, noisy_labels(data.y_train, "symmetric_exclusive", 0.4, 10, seed)
        wrong = given != data.y_train

        def train(model: nn.Module, x: Tensor, y: Tensor, seed: int = seed) -> None:
            fit(model, x, y, epochs=15, lr=0.05, batch_size=128, seed=seed)

        probabilities = confident_learning(p.mlp(seed), x, given, train, seed=seed).probabilities
        own = probabilities[torch.arange(len(given)), given]
        orders = {"confident_learning": own.argsort(stable=True)}
        for name in ("elr", "co_teaching"):
            net = p.mlp(seed)
            task = ELR(net, len(x), 10) if name == "elr" else CoTeaching(net, forget_rate=0.4, num_samples=len(x))
            generator = torch.Generator().manual_seed(seed)
            optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
            for epoch in range(40):
                for index in batches(len(x), 128, generator):
                    loss = task(x[index], given[index], index=index, epoch=epoch)["loss"]
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
            orders[name] = task.suspects()
        for name, order in orders.items():
            figures = ranking(order, wrong)
            for column in ("precision", "average_precision"):
                found.setdefault(f"{name}: {column}", []).append(figures[column])
    mean = {name: sum(v) / len(v) for name, v in found.items()}
    holds = [
        mean[f"{n}: average_precision"] >= mean["confident_learning: average_precision"] - 1
        for n in ("elr", "co_teaching")
    ]
    return Outcome(
        verdict(*holds),
        {name: mean_and_spread(v) for name, v in found.items()},
        "digits, 1197 labels with 40 % symmetric_exclusive flips, MLP 64-256-256-10, batch 128; ELR and co-teaching: SGD lr 0.1, "
        "40 epochs; confident learning: SGD lr 0.05, 15 epochs, five folds, ranked by the probability of the given label",
        "average precision of ELR's and of co-teaching's suspects at most 1 point below confident learning's",
    )
