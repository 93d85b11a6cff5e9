"""The shifted L2 regularizer against its closed-form gradients, and the shrink step against a loop."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from zoo.weights.shifted_l2 import AdaptiveWeightShrink, ShiftedL2, normalised_weights


@pytest.mark.parametrize("form", ["weight_norm", "weight_standardization"])
def test_closed_form_gradients(parity, form):
    weights = [torch.randn(5, 3, 2, 2, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64) * 0.01 + 0.3]
    lam, eps = 0.3, 0.5
    value, error = 0.0, 0.0
    weights = [w.requires_grad_() for w in weights]
    result = ShiftedL2(lam, eps, form)(weights)
    grads = torch.autograd.grad(result, weights)
    for w, grad in zip(weights, grads, strict=True):
        for row, g in zip(w.detach().flatten(1), grad.flatten(1), strict=True):
            n, mu = row.numel(), row.mean()
            if form == "weight_norm":
                expected = lam * (1 - eps / row.norm()) * row
                value += lam / 2 * (row.norm() - eps) ** 2
            else:
                s = row.std()  # sample deviation, as in the authors' code
                expected = lam * ((1 - eps / s) * (row - mu) + mu)
                value += lam / 2 * ((n - 1) * (s - eps) ** 2 + n * mu**2)
            error = max(error, float((g - expected).abs().max()))
    error = max(error, float((result - value).detach().abs()))
    parity("shifted_l2", error, 1e-12, oracle="gradients that the authors' optimizer adds, value by filter loop")


def test_without_shift_it_is_plain_l2():
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    for form in ("weight_norm", "weight_standardization"):
        assert torch.allclose(ShiftedL2(0.2, 0.0, form)([w]), 0.1 * w.square().sum())


def test_short_filters_grow_and_zero_filters_stay_finite():
    w = torch.full((2, 9), 1e-4, dtype=torch.float64)
    w[1] = 0
    w.requires_grad_()
    (grad,) = torch.autograd.grad(ShiftedL2(1.0, 1.0, "weight_norm")([w]), w)
    assert (grad[0] < 0).all()
    for form in ("weight_norm", "weight_standardization"):
        (grad,) = torch.autograd.grad(ShiftedL2(1.0, 1.0, form)([w]), w)
        assert grad.isfinite().all()


def test_the_set_of_weights():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Linear(4, 2),
    )
    assert [w is m.weight for w, m in zip(normalised_weights(model), (model[0], model[3]), strict=True)] == [True, True]
    weight_norm(model[0])
    assert normalised_weights(model)[0] is model[0].parametrizations.weight.original1
    loss = ShiftedL2()(model)
    loss.backward()
    assert model[0].parametrizations.weight.original1.grad is not None
    assert model[4].weight.grad is None


def test_half_precision_and_compile():
    w = torch.randn(4, 8, 3, 3)
    loss = ShiftedL2(1.0, 0.1)
    assert loss([w.bfloat16()]).dtype is torch.float32
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled([w]), loss([w]))


def test_shrink(parity):
    conv = nn.Conv2d(3, 4, 2).double()
    before = conv.weight.detach().clone()
    AdaptiveWeightShrink(conv, lam=0.5).project()
    error = 0.0
    for new, old in zip(conv.weight.detach(), before, strict=True):
        error = max(error, float((new - (1 - 0.5 * old.square().sum().sqrt()) * old).abs().max()))
    parity("adaptive_weight_shrink", error, 1e-14, oracle="loop over filters")
    with torch.no_grad():
        conv.weight[0].fill_(100)
    AdaptiveWeightShrink([conv.weight], lam=0.5).project()
    assert (conv.weight[0] == 0).all()  # never through zero


def test_shrinking_spares_short_filters():
    w = nn.Parameter(torch.tensor([[1.0, 0.0], [0.01, 0.0]]))
    shrink = AdaptiveWeightShrink([w], lam=0.1)
    for _ in range(100):
        shrink.project()
    assert float(w[0, 0].detach()) == pytest.approx(1 / 11, rel=0.15)  # 1 / (1 + lam t), not exp(-lam t)
    assert w[1, 0] > 0.009


def test_bad_input():
    with pytest.raises(ValueError, match="form is weight_norm or weight_standardization"):
        ShiftedL2(form="l2")
    with pytest.raises(ValueError, match="lam >= 0"):
        ShiftedL2(lam=-1)
    with pytest.raises(ValueError, match="no weight to act on"):
        ShiftedL2()(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="received \\(3,\\)"):
        ShiftedL2()([torch.zeros(3)])
    with pytest.raises(ValueError, match="two values a filter"):
        ShiftedL2()([torch.zeros(3, 1)])
    with pytest.raises(ValueError, match="no weight to act on"):
        AdaptiveWeightShrink(nn.Conv2d(4, 4, 3, groups=4))
