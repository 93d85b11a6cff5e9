"""Claims of temperature scaling (arXiv 1706.04599), on digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.claims import Outcome, mean_and_spread, verdict
from zoo.claims.data import digits
from zoo.claims.noisy_labels import protocol as p
from zoo.claims.train import accuracy, fit
from zoo.ensembles.temperature_scaling import TemperatureScaling, expected_calibration_error


def calibrates(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """A network overtrained on 200 digits, scaled on 400 others, judged on the test set."""
    found: dict[str, list[float]] = {n: [] for n in ("ece_before", "ece_after", "temperature", "change_of_accuracy")}
    for seed in seeds:
        data = digits(seed=seed)
        model = p.mlp(seed)
        fit(model, data.x_train[:200], data.y_train[:200], epochs=200, batch_size=50, lr=0.05, seed=seed)
        model.eval()
        scaled = TemperatureScaling(model).fit(data.x_train[200:600], data.y_train[200:600]).eval()
        with torch.no_grad():
            for name, net in (("before", model), ("after", scaled)):
                ece = expected_calibration_error(net(data.x_test).softmax(1), data.y_test)
                found["ece_" + name].append(100 * float(ece))
        found["temperature"].append(float(scaled.temperature))
        found["change_of_accuracy"].append(
            accuracy(scaled, data.x_test, data.y_test) - accuracy(model, data.x_test, data.y_test)
        )
    return Outcome(
        verdict(
            all(a < b for a, b in zip(found["ece_after"], found["ece_before"], strict=True)),
            all(c == 0 for c in found["change_of_accuracy"]),
        ),
        {name: mean_and_spread(v) for name, v in found.items()},
        "digits, MLP 64-256-256-10 trained 200 epochs on 200 images, temperature on 400 others, 15 bins, 500 test images",
        "lower ECE and the same accuracy, in every seed",
    )
