"""Claims of decoupling (arXiv 1910.09217), on digits with an exponential tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.train import fit
from zoo.long_tail.decoupling import DecouplingSampler, tau_normalized
from zoo.training.noise import long_tail


def _recall(logits: Tensor, y: Tensor, classes: Sequence[int]) -> float:
    guess = logits.argmax(1)
    return 100 * sum(float((guess[y == c] == c).float().mean()) for c in classes) / len(classes)


def few_shot_recall(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Ratio 100: head classes keep about 130 images, the last one 1. Joint training against tau = 1 and cRT."""
    found: dict[str, dict[str, list[float]]] = {n: {"few": [], "many": []} for n in ("joint", "tau", "crt")}
    for seed in seeds:
        data = digits(seed=seed)
        kept = long_tail(data.y_train, 100, 10, seed)
        x, y = data.x_train[kept], data.y_train[kept]
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        head = nn.Linear(64, 10)
        fit(nn.Sequential(body, head), x, y, epochs=60, batch_size=32, lr=0.05, seed=seed)
        with torch.no_grad():
            features, test = body(x), body(data.x_test)
        sampler = DecouplingSampler(y, "class_balanced", num_samples=32 * 200, seed=seed)
        again = nn.Linear(64, 10)
        drawn = torch.tensor(list(sampler))
        fit(again, features[drawn], y[drawn], epochs=3, batch_size=32, lr=0.05, seed=seed)
        heads = {"joint": head, "tau": tau_normalized(head, 1.0), "crt": again}
        with torch.no_grad():
            for name, classifier in heads.items():
                found[name]["few"].append(_recall(classifier(test), data.y_test, (7, 8, 9)))
                found[name]["many"].append(_recall(classifier(test), data.y_test, (0, 1, 2)))
    means = {n: {g: sum(v) / len(v) for g, v in groups.items()} for n, groups in found.items()}
    holds = []
    for name in ("tau", "crt"):
        holds.append(
            means[name]["few"] > means["joint"]["few"] + 2 and means[name]["many"] > means["joint"]["many"] - 5
        )
    return Outcome(
        verdict(*holds),
        {name: {group: mean_and_spread(v) for group, v in groups.items()} for name, groups in found.items()},
        "digits, exponential tail of ratio 100, MLP 64-128-64-10, SGD lr 0.05, 60 epochs; many: classes 0 to 2, few: 7 to 9",
        "tau = 1 and cRT each gain more than 2 points of recall on the few-shot classes and lose less than 5 on the many-shot",
    )
