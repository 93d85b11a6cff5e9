"""Claims of deep ensembles (arXiv 1612.01474), on digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import batches
from zoo.ensembles.deep_ensembles import DeepEnsemble
from zoo.ensembles.uncertainty import entropy


def better_than_members(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Five members on 300 digits; uniform noise as the foreign input."""
    names = ("nll", "member_nll", "accuracy", "member_accuracy", "foreign_entropy", "member_foreign_entropy")
    found: dict[str, list[float]] = {n: [] for n in names}
    for seed in seeds:
        data = digits(seed=seed)
        x, y = data.x_train[:300], data.y_train[:300]
        task = DeepEnsemble(p.mlp(seed, 128), num_members=5)
        optimizer = torch.optim.Adam(task.trainable_module.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(60):
            for i in batches(len(x), 50, generator):
                optimizer.zero_grad()
                task(x[i], y[i])["loss"].backward()
                optimizer.step()
        foreign = torch.rand(500, 1, 8, 8, generator=generator)
        with torch.no_grad():
            result, other = task(data.x_test, data.y_test), task(foreign, torch.zeros(500, dtype=torch.int64))
        members = result["members"]
        found["nll"].append(float(F.nll_loss(result["output"], data.y_test)))
        found["member_nll"].append(sum(float(F.cross_entropy(m, data.y_test)) for m in members) / 5)
        found["accuracy"].append(100 * float((result["output"].argmax(1) == data.y_test).float().mean()))
        found["member_accuracy"].append(100 * float((members.argmax(2) == data.y_test).float().mean()))
        found["foreign_entropy"].append(float(entropy(other["output"].exp()).mean()))
        found["member_foreign_entropy"].append(float(entropy(other["members"].softmax(2)).mean()))

    def average(name: str) -> float:
        return sum(found[name]) / len(found[name])

    return Outcome(
        verdict(
            average("nll") < average("member_nll"),
            average("accuracy") > average("member_accuracy"),
            average("foreign_entropy") > 1.1 * average("member_foreign_entropy"),
        ),
        {name: mean_and_spread(v) for name, v in found.items()},
        "digits, 300 training images, five MLPs 64-128-128-10, Adam 1e-3, 60 epochs; foreign inputs: uniform noise",
        "lower NLL and higher accuracy than the mean member; entropy on noise images more than 10 % above the members'",
    )
