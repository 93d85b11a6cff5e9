"""Temperature scaling against a grid search; calibration error in loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.ensembles.temperature_scaling import (
    TemperatureScaling,
    expected_calibration_error,
    fit_temperature,
    temperature_scaling,
)


def test_grid_search(parity):
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 5, generator=g, dtype=torch.float64)
    y = torch.multinomial(truth.softmax(1), 1, generator=g).squeeze(1)
    for stretch in (0.3, 3.0, 10.0):
        z = stretch * truth
        grid = torch.linspace(0.02, 12, 6001, dtype=torch.float64)
        losses = torch.stack([F.cross_entropy(z[:800] / t, y[:800]) for t in grid[::20]])
        coarse = int(losses.argmin()) * 20
        near = torch.linspace(float(grid[max(coarse - 20, 0)]), float(grid[coarse + 20]), 400, dtype=torch.float64)
        best = near[torch.stack([F.cross_entropy(z[:800] / t, y[:800]) for t in near]).argmin()]
        error = (fit_temperature(z[:800], y[:800]) - best).abs()
        assert float(fit_temperature(z, y)) == pytest.approx(stretch, rel=0.1)
        parity("temperature_scaling", error, 5e-4, oracle="grid search over T")


def test_calibrated_logits_stay():
    z = torch.tensor([[0.0, 0.0]] * 4 + [[50.0, 0.0]], requires_grad=True)
    y = torch.tensor([0, 1, 0, 1, 0])
    t = fit_temperature(z, y)
    assert t > 0
    assert z.grad is None


def test_wrapper_keeps_predictions_and_mode():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    x, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
    scaled = TemperatureScaling(model).train()
    assert torch.equal(scaled.eval()(x), model(x))
    scaled.train().fit(x, y)
    assert model.training
    model.eval()
    assert torch.equal(scaled(x).argmax(1), model(x).argmax(1))
    assert F.cross_entropy(scaled(x), y) <= F.cross_entropy(model(x), y) + 1e-6
    assert "temperature" in scaled.state_dict()
    assert torch.equal(temperature_scaling(model, x, y).temperature, scaled.temperature)


def test_calibration_error_in_loops():
    p, y = torch.randn(200, 4, dtype=torch.float64).softmax(1), torch.randint(0, 4, (200,))
    total = 0.0
    for b in range(15):
        inside = [i for i in range(200) if b / 15 < float(p[i].max()) <= (b + 1) / 15]
        if inside:
            right = sum(int(p[i].argmax()) == int(y[i]) for i in inside) / len(inside)
            sure = sum(float(p[i].max()) for i in inside) / len(inside)
            total += len(inside) / 200 * abs(right - sure)
    assert float(expected_calibration_error(p, y)) == pytest.approx(total, abs=1e-12)
