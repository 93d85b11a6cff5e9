"""The plain autoencoder: its linear form finds the principal components, and its shapes."""

from __future__ import annotations

import pytest
import torch

from zoo.generative.autoencoder import Autoencoder


def test_linear_autoencoder_reaches_the_principal_components(parity):
    """Without hidden layer the least error is that of PCA: at the PCA solution the gradient vanishes."""
    torch.manual_seed(0)
    x = torch.randn(40, 6, dtype=torch.float64) @ torch.diag(torch.tensor([3.0, 2, 1, 0.5, 0.2, 0.1]).double())
    x = x - x.mean(0)
    _, values, directions = torch.linalg.svd(x, full_matrices=False)
    model = Autoencoder(6, 2, hidden=()).double()
    with torch.no_grad():
        model.encoder[0].weight.copy_(directions[:2])
        model.decoder[0].weight.copy_(directions[:2].T)
        model.encoder[0].bias.zero_()
        model.decoder[0].bias.zero_()
    loss = model(x)["loss"]
    loss.backward()
    gradient = max(float(p.grad.abs().max()) for p in model.parameters())
    error = abs(float(loss.detach()) - float(values[2:].square().sum()) / 40)
    parity("autoencoder", max(error, gradient), 1e-12, oracle="error and stationarity of PCA by singular values")


def test_shapes_and_structure():
    model = Autoencoder(12, 3, (8, 5))
    out = model(torch.rand(2, 3, 4))
    assert out["output"].shape == (2, 3, 4)
    assert out["code"].shape == (2, 3)
    assert [m.out_features for m in model.decoder if hasattr(m, "out_features")] == [5, 8, 12]
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(torch.ones(2, 12))["loss"],
                               model(torch.ones(2, 12))["loss"])  # fmt: skip


def test_bad_input():
    with pytest.raises(ValueError, match=r"sizes >= 1, received \[4, 0, 2\]"):
        Autoencoder(4, 2, (0,))
    with pytest.raises(ValueError, match="4 values a sample"):
        Autoencoder(4, 2)(torch.zeros(1, 5))
