"""The orthonormality penalty against its closed form, the modulated backward pass against one done by hand."""

import copy

import pytest
import torch
from torch import nn

from zoo.weights.orthonormal_modulation import ModulatedBackward, OrthonormalRegularizer, modulate_backward


def test_closed_form(parity):
    weights = [torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    value = OrthonormalRegularizer(0.3)(weights)
    grads = torch.autograd.grad(value, weights)
    error, expected = 0.0, 0.0
    for w, grad in zip(weights, grads, strict=True):
        rows = w.detach().flatten(1)
        for i in range(4):
            for j in range(4):
                expected += 0.15 * (float(rows[i] @ rows[j]) - float(i == j)) ** 2
        closed = 2 * 0.3 * (rows @ rows.T @ rows - rows)
        error = max(error, float((grad.flatten(1) - closed).abs().max()))
    error = max(error, abs(float(value.detach()) - expected))
    parity("orthonormal_modulation", error, 1e-12, oracle="loop over pairs of filters, gradient 2 lam (W W^T W - W)")


def test_orthogonal_weights_cost_nothing():
    tall, wide = torch.empty(9, 4, dtype=torch.float64), torch.empty(4, 9, dtype=torch.float64)
    nn.init.orthogonal_(wide)
    assert OrthonormalRegularizer(1.0)([wide]) < 1e-20
    for part in tall.split(4):  # too many filters: sets of at most four, each orthonormal
        nn.init.orthogonal_(part)
    assert OrthonormalRegularizer(1.0)([tall]) < 1e-20
    assert OrthonormalRegularizer(1.0)([torch.ones(2, 4, dtype=torch.float64)]) > 1


def test_model_and_groups():
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    nn.init.orthogonal_(model[3].weight)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2).repeat(2, 1).view(4, 2, 1, 1))
    assert OrthonormalRegularizer(1.0)(model) < 1e-10
    compiled = torch.compile(OrthonormalRegularizer(1.0), backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled([torch.ones(2, 3)]), OrthonormalRegularizer(1.0)([torch.ones(2, 3)]))


def blocks():
    torch.manual_seed(3)
    return nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(4)), nn.Flatten()).double()


def test_backward_by_hand(parity):
    plain, modulated = blocks(), modulate_backward(blocks())
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    activations = [x]
    for block in list(plain)[:4]:
        activations.append(block(activations[-1]))
    y = modulated(x)
    assert torch.equal(y, activations[-1])
    up = torch.randn_like(y)
    delta, error = up, 0.0
    grads = torch.autograd.grad((y * up).sum(), [x, *modulated.parameters()])
    for i in (3, 2, 1, 0):
        here = torch.autograd.grad(
            activations[i + 1], [activations[i], *plain[i].parameters()], delta, retain_graph=True
        )
        for ours, theirs in zip(grads[1 + 2 * i : 3 + 2 * i], here[1:], strict=True):
            error = max(error, float((ours - theirs).abs().max()))
        delta = here[0] * (delta.std(correction=0) / here[0].std(correction=0))
    error = max(error, float((grads[0] - delta).abs().max()))
    parity("backward_modulation", error, 1e-6, oracle="layer by layer backward pass with rescaled errors")
    assert grads[0].std(correction=0) == pytest.approx(float(up.std(correction=0)), rel=1e-5)


def test_limit_switch_evaluation_and_zero_error():
    x = torch.randn(8, 6, requires_grad=True)
    block = nn.Linear(6, 6, bias=False)
    with torch.no_grad():
        block.weight.mul_(1e-4)
    (plain,) = torch.autograd.grad(block(x).sum(), x)
    wrapped = ModulatedBackward(block, limit=10.0)
    (limited,) = torch.autograd.grad((wrapped(x) * torch.randn(8, 6)).sum(), x)
    assert limited.std() < 0.01  # one of order 1e-4 may grow tenfold at most
    for off in (ModulatedBackward(block, enabled=False), ModulatedBackward(block).eval()):
        assert torch.equal(torch.autograd.grad(off(x).sum(), x)[0], plain)
    (zero,) = torch.autograd.grad((ModulatedBackward(block)(x) * 0).sum(), x)
    assert torch.equal(zero, torch.zeros_like(zero))


def test_compiles_and_copies():
    model = modulate_backward(blocks())
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    (a,) = torch.autograd.grad(copy.deepcopy(model)(x).pow(3).sum(), x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    (b,) = torch.autograd.grad(compiled(x).pow(3).sum(), x)
    assert torch.allclose(a, b, atol=1e-8)


def test_bad_input():
    with pytest.raises(ValueError, match="found no linear or convolution weight"):
        OrthonormalRegularizer()(nn.ReLU())
    with pytest.raises(ValueError, match="received \\(3,\\)"):
        OrthonormalRegularizer()([torch.zeros(3)])
    with pytest.raises(ValueError, match="lam >= 0"):
        OrthonormalRegularizer(-1)
    with pytest.raises(ValueError, match="received Linear"):
        modulate_backward(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no block with parameters"):
        modulate_backward(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="limit >= 1"):
        ModulatedBackward(nn.ReLU(), limit=0.5)
