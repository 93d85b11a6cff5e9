"""Factorized bilinear: the quadratic form written out, the operator without diagonal, DropFactor's conventions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.pooling.factorized_bilinear import FactorizedBilinear


@pytest.mark.parametrize("diagonal", [True, False])
def test_quadratic_form(parity, diagonal):
    layer = FactorizedBilinear(5, 3, num_factors=4, keep=1.0, diagonal=diagonal).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    rows = []
    for v in x:
        outputs = []
        for j in range(3):
            matrix = layer.factors[j].T @ layer.factors[j]
            if not diagonal:
                matrix = matrix - torch.diag(matrix.diag())
            outputs.append(layer.bias[j] + layer.weight[j] @ v + v @ matrix @ v)
        rows.append(torch.stack(outputs))
    expected, y = torch.stack(rows), layer(x)
    g = torch.randn_like(y)
    leaves = [x, *layer.parameters()]
    got, want = (torch.autograd.grad((v * g).sum(), leaves) for v in (y, expected))
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("factorized_bilinear", error, 1e-12, oracle="x^T F^T F x output by output, gradients included")


def test_limits():
    layer = FactorizedBilinear(4, 3)
    x = torch.randn(2, 4)
    with torch.no_grad():
        layer.factors.zero_()
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    one = FactorizedBilinear(1, 2, diagonal=False).double().eval()
    v = torch.randn(3, 1, dtype=torch.float64)  # with one input there are no pairs
    assert torch.allclose(one(v), F.linear(v, one.weight, one.bias), atol=1e-15)


@pytest.mark.parametrize(
    ("scaling", "train", "evaluation"), [("paper", 0.25, 0.25), ("inverted", 1, 1), ("official", 1, 0.25)]
)
def test_mean_in_training_and_value_in_evaluation(scaling, train, evaluation):
    layer = FactorizedBilinear(3, 2, num_factors=4000, keep=0.25, scaling=scaling).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    full = torch.einsum("jki,ni->njk", layer.factors, x).square().sum(-1)
    assert torch.allclose(layer.train().quadratic(x) / full, torch.full_like(full, train), rtol=0.2)
    assert torch.allclose(layer.eval().quadratic(x), evaluation * full)
    assert torch.equal(layer(x), layer(x))


def test_one_mask_for_samples_and_outputs():
    layer = FactorizedBilinear(1, 2, bias=False, num_factors=1, keep=0.5)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        seen.add(tuple((layer.quadratic(torch.ones(4, 1)) > 0).flatten().tolist()))
    assert seen == {(True,) * 8, (False,) * 8}


def test_pooled_is_the_mean_over_positions_of_the_layer():
    layer = FactorizedBilinear(4, 3).eval()
    x = torch.randn(2, 4, 3, 5)
    by_position = torch.stack([layer(x[:, :, i, j]) for i in range(3) for j in range(5)]).mean(0)
    assert torch.allclose(layer.pooled(x), by_position, atol=1e-5)
    assert not torch.allclose(layer.pooled(x), layer(x.mean((2, 3))), atol=1e-3)


@pytest.mark.parametrize("bad", [{"num_factors": 0}, {"keep": 0.0}, {"keep": 1.5}, {"scaling": "none"}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="factorized_bilinear"):
        FactorizedBilinear(3, 2, **bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        FactorizedBilinear(3, 2)(torch.zeros(2, 4))
