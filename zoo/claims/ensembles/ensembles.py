"""Claims of Dietterich's survey (MCS 2000), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.ensembles.ensembles import ensembles
from zoo.training.noise import noisy_labels


def noise(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Accuracy lost to 20 % wrong labels by 60 boosted and 60 bagged trees."""
    found: dict[str, dict[str, list[float]]] = {m: {"clean": [], "noisy": []} for m in ("bagging", "boosting")}
    for seed in seeds:
        data = digits(seed=seed)
        x, xt = data.x_train.flatten(1).numpy(), data.x_test.flatten(1).numpy()
        given = noisy_labels(data.y_train, "symmetric_exclusive", 0.2, 10, seed)
        for method, columns in found.items():
            for name, y in (("clean", data.y_train), ("noisy", given)):
                model = ensembles(method=method, size=60, seed=seed).fit(x, y.numpy())
                columns[name].append(100 * float((model.predict(xt) == data.y_test.numpy()).mean()))
    drop = {m: sum(c["clean"]) / len(c["clean"]) - sum(c["noisy"]) / len(c["noisy"]) for m, c in found.items()}
    clean = {m: sum(c["clean"]) / len(c["clean"]) for m, c in found.items()}
    return Outcome(
        verdict(drop["boosting"] > drop["bagging"] + 1, clean["boosting"] >= clean["bagging"]),
        {m: {name: mean_and_spread(v) for name, v in c.items()} for m, c in found.items()} | {"drop": drop},
        "digits, 20 % symmetric_exclusive flips, 60 trees each (boosting: depth 8, SAMME)",
        "boosting loses at least one point more to the noise than bagging; without noise boosting is not behind",
    )
