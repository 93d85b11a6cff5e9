"""Claims of learning to reweight (arXiv 1803.09050), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import batches
from zoo.noisy_labels.learning_to_reweight import LearningToReweight
from zoo.training.noise import clean_split


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """With 100 clean samples held out from training; both sides train on the rest."""
    return p.resists(lambda model, n: LearningToReweight(model, num_samples=n), seeds, clean_per_class=10)


def flipped_copies(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Every batch holds each image twice, once with a wrong label; what share of the weight do the wrong ones get?"""
    share, zero = [], []
    for seed in seeds:
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
    measured = {"weight_on_wrong_copies": mean_and_spread(share), "wrong_copies_of_weight_zero": mean_and_spread(zero)}
    return Outcome(
        verdict(sum(share) / len(share) < 10, sum(zero) / len(zero) > 80),
        measured,
        "digits, 50 images a batch, each with its true and with a random wrong label, 100 clean images held out, "
        "MLP 64-256-256-10, SGD lr 0.1, momentum 0.9, 5 epochs",
        "wrong copies get less than 10 % of the weight, and more than 80 % of them weight zero",
    )
