"""DSG against loops over positions, the projection's statistics, limits, both masks, bad input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.backward.dynamic_sparse_graph import DynamicSparseConv2d, projection_size, ternary_projection


@pytest.mark.parametrize("training", [True, False])
def test_position_by_position(parity, training):
    layer = DynamicSparseConv2d(2, 6, stride=2, sparsity=0.5, projection_dim=4).double().train(training)
    torch.nn.init.normal_(layer.norm.bias)
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    patches = F.unfold(x, 3, padding=1, stride=2)  # (N, 18, L)
    w, r = layer.conv.weight.flatten(1), layer.projection.flatten(1)
    masks = torch.zeros(3, 6, patches.shape[2], dtype=torch.float64)
    for n in range(3):
        for p in range(patches.shape[2]):
            guess = [float((r @ patches[n, :, p].detach()) @ (r @ row)) for row in w.detach()]
            for j in sorted(range(6), key=lambda i: -guess[i])[:3]:
                masks[n, j, p] = 1
    h = torch.einsum("oc,ncl->nol", w, patches).clamp_min(0) * masks
    if training:
        mean, var = h.mean((0, 2)), h.var((0, 2), correction=0)
    else:
        mean, var = layer.norm.running_mean, layer.norm.running_var
    b = (h - mean[:, None]) / (var[:, None] + layer.norm.eps).sqrt() * layer.norm.weight[:, None] + layer.norm.bias[
        :, None
    ]
    expected = (b * masks).view(3, 6, 3, 3)
    y = layer(x)
    g = torch.randn_like(y)
    leaves = [x, *layer.parameters()]
    got, want = (torch.autograd.grad((v * g).sum(), leaves) for v in (y, expected))
    error = max(float((a - b).detach().abs().max()) for a, b in [(y, expected), *zip(got, want, strict=True)])
    parity("dynamic_sparse_graph", error, 1e-10, oracle="loops over samples and positions, gradients included")
    assert float((y == 0).double().mean()) >= 0.5  # the second mask keeps the zeros after BatchNorm


def test_no_sparsity_is_conv_relu_norm():
    layer = DynamicSparseConv2d(3, 5, sparsity=0.0)
    x = torch.randn(2, 3, 6, 6)
    y = layer(x)
    layer.norm.reset_running_stats()
    assert torch.equal(y, layer.norm(F.relu(layer.conv(x))))


def test_wide_projections_agree_with_the_oracle():
    x = torch.randn(4, 8, 8, 8)
    agreement = []
    for k in (4, 64, 4096):
        torch.manual_seed(0)
        layer = DynamicSparseConv2d(8, 16, projection_dim=k)
        guess, truth = layer.mask(layer.virtual(x)), layer.mask(layer.conv(x))
        agreement.append(float((guess * truth).sum() / truth.sum()))
    assert agreement == sorted(agreement)
    assert agreement[0] > 0.5
    assert agreement[-1] > 0.93


def test_projection_keeps_products_up_to_its_error():
    torch.manual_seed(0)
    r = ternary_projection(2000, 300)
    assert float((r == 0).float().mean()) == pytest.approx(2 / 3, abs=0.01)
    assert float(r.square().mean()) == pytest.approx(1, abs=0.02)
    a, b = torch.randn(2, 50, 300)
    errors = []
    for k in (50, 200, 800):
        p = r[:k] / k**0.5
        errors.append(float(((a @ p.T) @ (b @ p.T).T - a @ b.T).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)  # the error falls as 1 / sqrt(k)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.2)
    assert projection_size(64, 0.5, 576) == 17
    assert projection_size(64, 0.1, 100) == 100


def test_shared_threshold_is_that_of_the_first_sample():
    layer = DynamicSparseConv2d(2, 4, share_threshold=True)
    score = torch.tensor([[4.0, 3, 2, 1], [9, 9, 9, 0], [0, 0, 0, 3]])[:, :, None, None]
    assert layer.mask(score)[:, :, 0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("bad", [{"sparsity": 1.0}, {"kernel_size": 2}, {"selection": "best"}, {"epsilon": 0.0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="dynamic_sparse_graph"):
        DynamicSparseConv2d(3, **bad)


def test_bad_input():
    with pytest.raises(ValueError, match="received"):
        DynamicSparseConv2d(3)(torch.zeros(1, 2, 5, 5))
