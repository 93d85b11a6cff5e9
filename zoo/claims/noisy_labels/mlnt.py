"""Claims of MLNT (arXiv 1812.05214), on digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import accuracy, batches
from zoo.noisy_labels.mlnt import MLNT
from zoo.training.noise import noisy_labels


def _moved(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> float:
    """KL between the predictions before and after one SGD step on random labels, mean over ten draws."""
    total: float = 0.0
    params = list(model.parameters())
    before = model(x).log_softmax(1).detach()
    for _ in range(10):
        fake = torch.where(torch.rand(len(y)) < 0.5, torch.randint(0, 10, y.shape), y)
        slopes = torch.autograd.grad(F.cross_entropy(model(x), fake), params)
        with torch.no_grad():
            for w, g in zip(params, slopes, strict=True):
                w.sub_(lr * g)
            after = model(x).log_softmax(1)
            for w, g in zip(params, slopes, strict=True):
                w.add_(lr * g)
        total += float(F.kl_div(after, before, log_target=True, reduction="batchmean"))
    return total / 10


def noise_tolerant_step(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Train with and without the meta-objective on 40 % flips; then step once on freshly corrupted held-out labels."""
    moved: dict[str, list[float]] = {"mlnt": [], "cross_entropy": []}
    right: dict[str, list[float]] = {"mlnt": [], "cross_entropy": []}
    for seed in seeds:
        data = digits(seed=seed)
        given = noisy_labels(data.y_train, "symmetric_exclusive", 0.4, 10, seed)
        for name, sets in (("mlnt", 2), ("cross_entropy", 0)):
            task = MLNT(p.mlp(seed, 64), num_sets=sets, meta_lr=0.2, ramp=(0, 80), gamma=0.99)
            optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr=0.1, momentum=0.9)
            generator = torch.Generator().manual_seed(seed)
            for _ in range(12):
                for i in batches(len(given), 64, generator):
                    optimizer.zero_grad()
                    task(data.x_train[i], given[i])["loss"].backward()
                    optimizer.step()
                    task.after_step()
            torch.manual_seed(seed)
            moved[name].append(_moved(task.trainable_module, data.x_test, data.y_test, 0.2))
            right[name].append(accuracy(task.trainable_module, data.x_test, data.y_test))
    measured = {name: {"kl": mean_and_spread(moved[name]), "accuracy": mean_and_spread(right[name])} for name in moved}
    return Outcome(
        verdict(all(a < b for a, b in zip(moved["mlnt"], moved["cross_entropy"], strict=True))),
        measured,
        "digits with 40 % symmetric_exclusive flips, MLP 64-64-64-10, SGD lr 0.1, momentum 0.9, batch 64, 12 epochs, M = 2, "
        "inner step 0.2; then one step of 0.2 on test labels of which half are drawn at random",
        "smaller KL between the predictions before and after that step, in every seed",
    )
