"""Claims of learning to reweight (arXiv 1803.09050), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import batches
from zoo.noisy_labels.learning_to_reweight import LearningToReweight
from zoo.training.noise import clean_split


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """With 100 clean samples held out from training; both sides train on the rest."""
    return p.resists(lambda model, n: LearningToReweight(model, num_samples=n), seeds, clean_per_class=10)


def _exact_copies(seed: int) -> float:
    """Share, in percent, of flipped copies of the clean sample itself that get weight zero at a fresh linear model."""
    data = digits(seed=seed)
    torch.manual_seed(seed)
    task = LearningToReweight(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    zero = 0
    for i in range(200):
        x, y = data.x_test[i : i + 1], data.y_test[i : i + 1]
        result = task(torch.cat([x, x]), torch.cat([y, (y + 1 + i % 9) % 10]), meta_batch=(x, y))
        zero += int(result["weights"][1] == 0)
    return zero / 2


def flipped_copies(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Every batch holds each image twice, once with a wrong label; what share of the weight do the wrong ones get?"""
    share, zero, exact = [], [], []
    for seed in seeds:
        exact.append(_exact_copies(seed))
        data = digits(seed=seed)
        keep, held = clean_split(data.y_train, 10, 10, seed)
        x, y = data.x_train[keep], data.y_train[keep]
        generator = torch.Generator().manual_seed(seed)
        wrong = (y + torch.randint(1, 10, y.shape, generator=generator)) % 10
        task = LearningToReweight(p.mlp(seed))
        optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr=0.1, momentum=0.9)
        taken, zeros = [], []
        for _ in range(5):
            for i in batches(len(x), 50, generator):
                result = task(
                    torch.cat([x[i], x[i]]), torch.cat([y[i], wrong[i]]),
                    meta_batch=(data.x_train[held], data.y_train[held]),
                )  # fmt: skip
                optimizer.zero_grad()
                result["loss"].backward()
                optimizer.step()
                taken.append(float(result["weights"][50:].sum()))
                zeros.append(float((result["weights"][50:] == 0).float().mean()))
        share.append(100 * sum(taken) / len(taken))
        zero.append(100 * sum(zeros) / len(zeros))
    measured = {
        "copies_of_the_clean_sample_of_weight_zero": mean_and_spread(exact),
        "weight_on_wrong_copies": mean_and_spread(share),
        "wrong_copies_of_weight_zero": mean_and_spread(zero),
    }
    return Outcome(
        verdict(min(exact) == 100, sum(share) / len(share) < 10, sum(zero) / len(zero) > 80),
        measured,
        "digits, 50 images a batch, each with its true and with a random wrong label, 100 clean images held out, "
        "MLP 64-256-256-10, SGD lr 0.1, momentum 0.9, 5 epochs; before that, 200 images at a fresh linear model",
        "flipped copies of the clean sample itself always get zero at a linear model; in training with a batch of clean samples "
        "wrong copies get less than 10 % of the weight, and more than 80 % of them weight zero",
    )
