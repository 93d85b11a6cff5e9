"""Claims of MetaCleaner (CVPR 2019), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import accuracy
from zoo.noisy_labels.metacleaner import ClassGroupSampler, MetaCleaner
from zoo.training.noise import noisy_labels


class _Network(nn.Module):
    """An MLP with timm's names for its halves."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.num_features = 64
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
        self.fc = nn.Linear(64, 10)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x if pre_logits else self.fc(x)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


def weights_favour_clean(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Mean weight, times the group size, of right and of wrong labels over the last epochs."""
    found: dict[str, list[float]] = {"clean_weight": [], "wrong_weight": [], "accuracy": []}
    for seed in seeds:
        data = digits(seed=seed)
        given = noisy_labels(data.y_train, "symmetric_exclusive", 0.4, 10, seed)
        wrong = given != data.y_train
        task = MetaCleaner(_Network(seed), per_class=5)
        optimizer = torch.optim.SGD(task.trainable_module.parameters(), lr=0.05, momentum=0.9)
        sampler = ClassGroupSampler(given, classes=10, per_class=5, seed=seed)
        clean_weights, wrong_weights = [], []
        for epoch in range(30):
            for batch in sampler:
                i = torch.tensor(batch)
                result = task(data.x_train[i], given[i])
                optimizer.zero_grad()
                result["loss"].backward()
                optimizer.step()
                if epoch >= 20:
                    share = 5 * result["weights"].detach().flatten()
                    clean_weights.append(float(share[~wrong[i]].mean()))
                    if wrong[i].any():
                        wrong_weights.append(float(share[wrong[i]].mean()))
        found["clean_weight"].append(sum(clean_weights) / len(clean_weights))
        found["wrong_weight"].append(sum(wrong_weights) / len(wrong_weights))
        found["accuracy"].append(accuracy(task.trainable_module, data.x_test, data.y_test))
    pairs = zip(found["wrong_weight"], found["clean_weight"], strict=True)
    return Outcome(
        verdict(all(w < 0.9 * c for w, c in pairs)),
        {name: mean_and_spread(v) for name, v in found.items()},
        "digits with 40 % symmetric_exclusive flips, MLP 64-256-64-10, groups of 5, SGD lr 0.05, momentum 0.9, 30 epochs; "
        "weights of the last ten epochs, 1 being an equal share",
        "the mean weight of wrong labels at least 10 % below that of right ones, in every seed",
    )
