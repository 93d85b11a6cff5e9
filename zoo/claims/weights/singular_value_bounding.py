"""Singular value bounding on digits: a deep plain network with and without the band."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy, fit
from zoo.weights.singular_value_bounding import SingularValueBounding


def deep_plain_network(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy and condition numbers of a 20-layer network, orthogonal start, bounded once an epoch or not."""
    data = digits()
    measured = {}
    for kind in ("orthogonal_start", "bounded"):
        scores, conditions = [], []
        for seed in seeds:
            torch.manual_seed(seed)
            layers: list[nn.Module] = [nn.Flatten()]
            for _ in range(20):
                layers += [nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
            model = nn.Sequential(*layers, nn.Linear(64, 10))
            steps = len(data.x_train) // 64
            bound = SingularValueBounding(model, eps=0.5, every=steps)
            bound.orthogonal_init()
            after = bound.project if kind == "bounded" else None
            fit(model, data.x_train, data.y_train, epochs=8, batch_size=64, lr=0.1, seed=seed, after_step=after)
            # The last projection moves the weights under BN's running statistics: both kinds take them anew.
            with torch.no_grad():
                for batch in data.x_train.split(64):
                    model.train()(batch)
            scores.append(accuracy(model, data.x_test, data.y_test))
            values = [torch.linalg.svdvals(w.detach()) for w, _ in bound.weights]
            conditions.append(max(float(s[0] / s[-1]) for s in values))
        measured[f"{kind}_accuracy"] = mean_and_spread(scores)
        measured[f"{kind}_largest_condition_number"] = mean_and_spread(conditions)
    return Outcome(
        status=verdict(
            measured["bounded_accuracy"]["mean"] > measured["orthogonal_start_accuracy"]["mean"],
            measured["bounded_largest_condition_number"]["mean"] <= 2.26,
        ),
        measured=measured,
        setting="digits, 20 hidden layers of 64 with BN and ReLU, no shortcuts, SGD 0.1 momentum 0.9, batch 64, "
        "8 epochs, eps 0.5, projected at the end of every epoch, BN statistics taken anew before the test",
        tolerance="higher mean test accuracy with the band; all condition numbers within 1.5 squared",
    )
