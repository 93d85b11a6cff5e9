"""Claims of FaceNet about mining, on MNIST-5k."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import mnist5k
from zoo.metric_learning._distances import recall_at, squared_distances
from zoo.metric_learning.facenet import FaceNetLoss

CLASSES, EACH, STEPS = 10, 8, 300
SETTING = "MNIST-5k, MLP 784-256-128 on the unit sphere, batches of 10 classes x 8, 300 Adam steps"


def balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Eight images of each class."""
    groups = [(labels == c).nonzero().squeeze(1) for c in range(CLASSES)]
    return torch.cat([g[torch.randperm(len(g), generator=generator)[:EACH]] for g in groups])


def trained(mining: str, lr: float, seed: int) -> nn.Sequential:
    data = mnist5k()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss = FaceNetLoss(mining=mining)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        index = balanced(data.y_train, generator)
        optimizer.zero_grad(set_to_none=True)
        loss(model(data.x_train[index]), data.y_train[index]).backward()
        optimizer.step()
    return model


def random_starves(seeds: Sequence[int]) -> Outcome:
    """After 300 steps hardly any random triplet still violates the margin: nothing is left to learn from."""
    data = mnist5k()
    active, recall = [], []
    for seed in seeds:
        model = trained("random", 1e-3, seed)
        generator = torch.Generator().manual_seed(seed + 100)
        with torch.no_grad():
            found = []
            for _ in range(10):
                index = balanced(data.y_train, generator)
                f, labels = F.normalize(model(data.x_train[index])), data.y_train[index]
                d = squared_distances(f)
                used = (labels[:, None] == labels)[:, :, None] & (labels[:, None] != labels)[:, None, :]
                violated = d[:, :, None] - d[:, None, :] + 0.2 > 0
                found.append(float(violated[used].float().mean()))
            active.append(100 * sum(found) / len(found))
            test, train = (F.normalize(model(x)) for x in (data.x_test, data.x_train))
            recall.append(recall_at(test, data.y_test, train, data.y_train))
    return Outcome(
        status=verdict(max(active) < 5),
        measured={"triplets inside the margin %": mean_and_spread(active), "recall@1 %": mean_and_spread(recall)},
        setting=SETTING + " at 1e-3 with random negatives",
        tolerance="fewer than 5 % of all triplets violate the margin, in every seed",
    )


def hardest_collapses(seeds: Sequence[int]) -> Outcome:
    """At a high rate the hardest negatives pull all embeddings together, semi-hard ones do not."""
    data = mnist5k()
    spread: dict[str, list[float]] = {"hard": [], "semi_hard": []}
    recall: dict[str, list[float]] = {"hard": [], "semi_hard": []}
    for seed in seeds:
        for mining in spread:
            model = trained(mining, 3e-2, seed)
            with torch.no_grad():
                test, train = (F.normalize(model(x)) for x in (data.x_test, data.x_train))
            spread[mining].append(float(squared_distances(test).mean()))
            recall[mining].append(recall_at(test, data.y_test, train, data.y_train))
    return Outcome(
        status=verdict(max(spread["hard"]) < 0.5, min(spread["semi_hard"]) > 1.0),
        measured={
            **{f"{k}, mean squared distance": mean_and_spread(v) for k, v in spread.items()},
            **{f"{k}, recall@1 %": mean_and_spread(v) for k, v in recall.items()},
        },
        setting=SETTING + " at 3e-2",
        tolerance="mean squared distance of test images below 0.5 with hard, above 1 with semi-hard, in every seed",
    )
