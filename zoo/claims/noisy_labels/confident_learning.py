"""Claims of confident learning (arXiv 1911.00068), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import fit
from zoo.noisy_labels.confident_learning import confident_learning
from zoo.training.noise import noisy_labels


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
