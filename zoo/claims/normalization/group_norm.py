"""Claims of Group Normalization (arXiv 1803.08494)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.normalization import _cifar
from zoo.claims.normalization._nets import SETTING, cnn, table
from zoo.claims.train import fit


def batch_size_free(seeds: Sequence[int]) -> Outcome:
    """A trained network gives a sample the same answer in any company; BatchNorm in training mode does not."""
    drift, drops = [], []
    for seed in seeds:
        data = digits(seed=seed)
        rights = {}
        for name, norm in (("gn", lambda c: nn.GroupNorm(8, c)), ("bn", nn.BatchNorm2d)):
            torch.manual_seed(seed)
            model = cnn(norm)
            fit(model, data.x_train, data.y_train, epochs=3, batch_size=32, lr=0.05, seed=seed)
            with torch.no_grad():
                whole = model(data.x_test)  # training mode
                pairs = torch.cat([model(x) for x in data.x_test.split(2)])
            rights[name] = [100 * float((logits.argmax(1) == data.y_test).float().mean()) for logits in (whole, pairs)]
            if name == "gn":
                drift.append(float((whole - pairs).abs().max()))
        drops.append({name: a - b for name, (a, b) in rights.items()})
    gn, bn = ([d[name] for d in drops] for name in ("gn", "bn"))
    return Outcome(
        status=verdict(max(drift) < 1e-4 and max(gn) == 0, min(bn) >= 5),
        measured={
            "gn_largest_logit_change": max(drift),
            "gn_points_lost_from_batch_500_to_2": mean_and_spread(gn),
            "bn_points_lost_from_batch_500_to_2": mean_and_spread(bn),
        },
        setting=(
            "scikit-learn digits, three-layer CNN, 3 epochs SGD 0.05 batch 32; held-out digits in "
            "training mode, 500 or 2 at a time"
        ),
        tolerance="GN: logits change by less than 1e-4 and no point is lost; BN loses 5 points or more in every seed",
    )


def small_batch_training(seeds: Sequence[int]) -> Outcome:
    """Trained with two samples per normalising batch, GN stays where BN with a large batch is; BN falls."""
    seeds = tuple(seeds)
    runs = table(("bn", "bn_2", "gn"), seeds)
    means = {name: sum(values) / len(values) for name, values in runs.items()}
    return Outcome(
        status=verdict(means["gn"] >= means["bn"] - 2, means["bn"] - means["bn_2"] >= 10),
        measured={name: mean_and_spread(values) for name, values in runs.items()},
        setting=SETTING + "; GN with 10 groups",
        tolerance="GN at most 2 points below BN with the large batch; BN with batch 2 loses 10 points or more",
    )


def cifar10_batches(seeds: Sequence[int]) -> Outcome:
    """On CIFAR-10: behind BN at a normalising batch of 32, ahead of it at 2; GN takes no note of either."""
    found = _cifar.runs(("bn", "bn_2", "gn"), seeds)
    mean = _cifar.means(found)
    ahead = all(g > b for g, b in zip(found["gn"], found["bn_2"], strict=True))
    return Outcome(
        status=verdict(ahead, mean["bn"] - mean["bn_2"] > abs(mean["bn"] - mean["gn"])),
        measured=_cifar.measured(found),
        setting=_cifar.SETTING + "; GN with 8 groups",
        tolerance="GN above BN-2 in every seed; BN loses more by the batch of 2 than what parts GN from BN at 32",
    )
