"""Singular value bounding against an eigendecomposition of the Gram matrix, bounded BN against a loop."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from zoo.weights.singular_value_bounding import BoundedBatchNorm, SingularValueBounding, bound_singular_values


def by_gram(w, eps):
    """The same projection through ``W W^T = U diag(s^2) U^T``: the factor s'/s acts from the left."""
    squares, u = torch.linalg.eigh(w @ w.T)
    s = squares.clamp_min(0).sqrt()
    return u @ torch.diag(s.clamp(1 / (1 + eps), 1 + eps) / s) @ u.T @ w


def test_gram_matrix(parity):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 4, 3), nn.Linear(20, 4), nn.Linear(4, 3)
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.5)
    before = [layer.weight.detach().clone() for layer in model]
    SingularValueBounding(model, eps=0.2).project()
    error = 0.0
    for layer, old in zip(model, before, strict=True):
        groups = getattr(layer, "groups", 1)
        for new, was in zip(layer.weight.detach().chunk(groups), old.chunk(groups), strict=True):
            error = max(error, float((new.flatten(1) - by_gram(was.flatten(1), 0.2)).abs().max()))
    parity("singular_value_bounding", error, 1e-10, oracle="eigendecomposition of the Gram matrix, group by group")


def test_band_idempotent_and_inside_untouched():
    w = nn.Parameter(torch.randn(6, 30, dtype=torch.float64))
    projection = SingularValueBounding([w], eps=0.05)
    projection.project()
    s = torch.linalg.svdvals(w.detach())
    assert s.min() >= 1 / 1.05 - 1e-12
    assert s.max() <= 1.05 + 1e-12
    once = w.detach().clone()
    projection.project()
    assert torch.allclose(w, once, atol=1e-12)


def test_zero_band_is_the_polar_factor():
    w = torch.randn(5, 9, dtype=torch.float64)
    q = bound_singular_values(w, 0.0)
    assert torch.allclose(q @ q.T, torch.eye(5, dtype=torch.float64), atol=1e-12)
    h = w @ q.T  # w = h q with h symmetric positive: q is the nearest matrix with orthonormal rows
    assert torch.allclose(h, h.T, atol=1e-12)
    assert torch.linalg.eigvalsh(h).min() > 0


def conditioned(m, n, low, high, dtype):
    generator = torch.Generator().manual_seed(3)
    u, v = (torch.linalg.qr(torch.randn(k, m, dtype=dtype, generator=generator))[0] for k in (m, n))
    return (u * torch.linspace(math.log(low), math.log(high), m, dtype=dtype).exp()) @ v.T


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (1e-2, 3.0), (1e-4, 10.0)])
@pytest.mark.parametrize("eps", [0.0, 0.05, 0.5])
def test_newton_schulz_is_the_svd_form(low, high, eps):
    w = conditioned(16, 90, low, high, torch.float64)
    for matrix in (w, w.T, torch.stack([w, 0.3 * w])):  # wide, tall, a batch
        by_products = bound_singular_values(matrix, eps, "newton_schulz")
        assert torch.allclose(by_products, bound_singular_values(matrix, eps), atol=1e-9)
    single = bound_singular_values(w.float(), eps, "newton_schulz")
    s = torch.linalg.svdvals(single)
    assert s.min() > 1 / (1 + eps) - 5e-6
    assert s.max() < 1 + eps + 5e-6
    assert (single - bound_singular_values(w, eps)).abs().max() < 3e-7 * high / low


def test_newton_schulz_without_rank_or_steps():
    w = torch.randn(4, 2, dtype=torch.float64) @ torch.randn(2, 9, dtype=torch.float64)
    s = torch.linalg.svdvals(bound_singular_values(w, 0.1, "newton_schulz"))
    assert s[:2].min() > 1 / 1.1 - 1e-9
    assert s[2:].max() < 0.1  # nothing points there; the SVD form picks a direction by rounding
    assert bound_singular_values(torch.zeros(2, 3), 0.1, "newton_schulz").abs().max() == 0
    w = conditioned(8, 20, 1e-4, 1.0, torch.float64)
    short = torch.linalg.svdvals(bound_singular_values(w, 0.1, "newton_schulz", steps=4))
    assert short.min() < 0.8  # too few steps are seen


def test_newton_schulz_in_the_projection():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Linear(3, 9)).double()
    twin = copy.deepcopy(model)
    SingularValueBounding(model, eps=0.1, method="newton_schulz").project()
    SingularValueBounding(twin, eps=0.1).project()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_every_and_the_optimizer_hook():
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    projection = SingularValueBounding(layer, eps=0.1, every=2)
    projection.orthogonal_init()
    assert torch.allclose(layer.weight @ layer.weight.T, torch.eye(4), atol=1e-5)
    projection.follow(optimizer)
    outside = []
    for _ in range(4):
        layer(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        s = torch.linalg.svdvals(layer.weight.detach())
        outside.append(bool(s.max() > 1.1001 or s.min() < 1 / 1.1001))
    assert outside[1::2] == [False, False]
    assert any(outside[::2])


def test_depthwise_is_left_alone_and_half_precision_works():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 4)).bfloat16()
    before = model[0].weight.detach().clone()
    SingularValueBounding(model).project()
    assert torch.equal(model[0].weight, before)
    assert torch.linalg.svdvals(model[1].weight.detach().float()).max() < 1.52


@pytest.mark.parametrize("form", ["ratio", "relative"])
def test_bounded_batch_norm_loop(parity, form):
    bn = nn.BatchNorm2d(8).double()
    nn.init.uniform_(bn.weight, 0.1, 3.0)
    nn.init.uniform_(bn.running_var, 0.2, 4.0)
    with torch.no_grad():
        bn.weight[3].neg_()
    old = bn.weight.detach().clone()
    BoundedBatchNorm(nn.Sequential(bn), eps=0.3, form=form).project()
    sigma = [1.0] * 8 if form == "relative" else [(float(v) + bn.eps) ** 0.5 for v in bn.running_var]
    ratios = [abs(float(g)) / s for g, s in zip(old, sigma, strict=True)]
    mean = sum(ratios) / 8
    error = 0.0
    for i in range(8):
        bounded = min(max(ratios[i] / mean, 1 / 1.3), 1.3) * mean * sigma[i]
        error = max(error, abs(float(bn.weight[i].detach()) - (bounded if old[i] > 0 else -bounded)))
    parity("bounded_batch_norm", error, 1e-12, oracle="loop over channels")


def test_bad_input():
    with pytest.raises(ValueError, match=r"method svd or newton_schulz, received .*'qr'"):
        SingularValueBounding(nn.Linear(2, 2), method="qr")
    with pytest.raises(ValueError, match="found no linear or convolution weight"):
        SingularValueBounding(nn.ReLU())
    with pytest.raises(ValueError, match="parametrised weight of '0'"):
        SingularValueBounding(nn.Sequential(weight_norm(nn.Linear(3, 3))))
    with pytest.raises(ValueError, match="received \\(3,\\)"):
        SingularValueBounding([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="eps >= 0"):
        SingularValueBounding(nn.Linear(3, 3), eps=-1)
    with pytest.raises(ValueError, match="every is 1 or more"):
        SingularValueBounding(nn.Linear(3, 3), every=0)
    with pytest.raises(ValueError, match="no affine batch norm"):
        BoundedBatchNorm(nn.BatchNorm2d(3, affine=False))
