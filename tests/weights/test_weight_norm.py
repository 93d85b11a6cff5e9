"""Weight normalization: closed-form gradients, torch's parametrisation, sequential data-dependent initialisation."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import cached
from torch.utils.checkpoint import checkpoint

from zoo.weights.weight_norm import MeanOnlyBatchNorm, data_dependent_init, weight_norm


def parts(layer):
    return layer.parametrizations.weight.original0, layer.parametrizations.weight.original1


def test_closed_form_gradients(parity):
    layer = weight_norm(nn.Linear(5, 3)).double()
    g, v = parts(layer)
    x = torch.randn(4, 5, dtype=torch.float64)
    weight = (g / v.norm(dim=1, keepdim=True) * v).detach().requires_grad_()
    (grad_w,) = torch.autograd.grad(F.linear(x, weight, layer.bias).pow(3).sum(), weight)
    layer(x).pow(3).sum().backward()
    norm = v.detach().norm(dim=1, keepdim=True)
    grad_g = (grad_w * v.detach() / norm).sum(1, keepdim=True)
    grad_v = g.detach() / norm * grad_w - g.detach() * grad_g / norm**2 * v.detach()
    error = max((g.grad - grad_g).abs().max(), (v.grad - grad_v).abs().max())
    parity("weight_norm", error, 1e-12, oracle="closed-form gradients of g and v, equation 3 of the paper")
    assert (v.grad * v).sum(1).abs().max() < 1e-12  # the step of v is orthogonal to v


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(6, 4), nn.Conv2d(6, 4, 3, groups=2), nn.ConvTranspose2d(6, 4, 3), nn.ConvTranspose2d(6, 4, 3, groups=2)],
    ids=str,
)
def test_function_is_unchanged_and_g_is_per_output_channel(layer):
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 6, 5, 5)
    before, y = copy.deepcopy(layer), layer(x)
    assert weight_norm(layer) is layer
    assert torch.allclose(layer(x), y, atol=1e-6)
    g, _ = parts(layer)
    assert g.numel() == 4
    with torch.no_grad():
        g.mul_(torch.tensor([2.0, 3.0, 4.0, 5.0]).view_as(g))
    bias = before.bias.view(-1, *(1,) * (y.dim() - 2))
    scaled = (y - bias) * torch.tensor([2.0, 3.0, 4.0, 5.0]).view(1, 4, *(1,) * (y.dim() - 2)) + bias
    assert torch.allclose(layer(x), scaled, atol=1e-5)


def deep():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 13 * 13, 10),
    )  # fmt: skip


def test_data_dependent_init_is_sequential():
    model = weight_norm(deep(), init_std=0.05).double()
    x = torch.randn(32, 3, 8, 8, dtype=torch.float64) * 4 + 2
    assert data_dependent_init(model, x, scale={"7": 0.1}) == ["0", "2", "4", "7"]
    for name, layer in model.named_children():
        x = layer(x)
        if name in ("0", "4", "7"):
            dims = [d for d in range(x.dim()) if d != 1]
            var, mean = torch.var_mean(x, dims, correction=0)
            wanted = 0.1 if name == "7" else 1.0
            assert mean.abs().max() < 1e-6
            assert (var.sqrt() - wanted).abs().max() < 1e-6
        if name == "2":  # no bias: only the deviation is set
            assert (x.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-6
            assert x.mean((0, 2, 3)).abs().max() > 1e-3


def test_init_does_not_depend_on_the_weights_length():
    one, two = weight_norm(nn.Linear(7, 4)).double(), weight_norm(nn.Linear(7, 4)).double()
    two.load_state_dict(one.state_dict())
    with torch.no_grad():
        parts(two)[0].mul_(3)
        two.bias.add_(5)
    x = torch.randn(20, 7, dtype=torch.float64)
    data_dependent_init(one, x)
    data_dependent_init(two, x)
    assert torch.allclose(one(x), two(x), atol=1e-8)


def test_shared_layer_is_initialised_once():
    layer = nn.Linear(6, 6)
    model = weight_norm(nn.Sequential(layer, nn.Tanh(), layer)).double()
    x = torch.randn(64, 6, dtype=torch.float64)
    assert data_dependent_init(model, x) == ["0"]
    assert (layer(x).std(0, correction=0) - 1).abs().max() < 1e-6


def test_copies_state_compile():
    model, x = weight_norm(deep()), torch.randn(2, 3, 8, 8)
    data_dependent_init(model, torch.randn(8, 3, 8, 8))
    y = model(x)
    fresh = weight_norm(deep())
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(copy.deepcopy(model)(x), y)
    assert torch.equal(fresh(x), y)
    with cached():
        assert torch.equal(model(x), y)
    assert torch.allclose(torch.compile(model, backend="aot_eager", fullgraph=True)(x), y, atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="no linear or convolution layer in ReLU"):
        weight_norm(nn.ReLU())
    with pytest.raises(ValueError, match="no weight-normalised layer"):
        data_dependent_init(nn.Linear(3, 3), torch.randn(4, 3))
    model = weight_norm(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="scale names \\['x'\\]"):
        data_dependent_init(model, torch.randn(4, 3), scale={"x": 1.0})
    with pytest.raises(ValueError, match="more than one value"):
        data_dependent_init(model, torch.randn(1, 3))
    assert not model._forward_hooks


def test_mean_only_batch_norm(parity):
    layer = MeanOnlyBatchNorm(4).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(6, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(6, 4, 3, 2, dtype=torch.float64)
    y = layer(x)
    (grad,) = torch.autograd.grad((y * upstream).sum(), x)
    error = 0.0
    for c in range(4):
        error = max(error, float((y[:, c] - (x[:, c] - x[:, c].mean() + layer.bias[c])).detach().abs().max()))
        error = max(error, float((grad[:, c] - (upstream[:, c] - upstream[:, c].mean())).abs().max()))
    error = max(error, float((layer.running_mean - 0.1 * x.detach().mean((0, 2, 3))).abs().max()))
    parity("mean_only_batch_norm", error, 1e-13, oracle="plain loop over channels, centred gradient, running mean")
    layer.eval()
    assert torch.allclose(layer(x), x + (layer.bias - layer.running_mean).view(1, 4, 1, 1))


def test_mean_only_state_counts_once_under_checkpointing():
    layer, x = MeanOnlyBatchNorm(3), torch.randn(8, 3, requires_grad=True)
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert torch.allclose(layer.running_mean, 0.1 * x.mean(0))


def test_mean_only_forms():
    layer, x = MeanOnlyBatchNorm(3), torch.randn(8, 3, 4, 4)
    compiled = copy.deepcopy(layer)
    y = layer(x)
    assert torch.allclose(torch.compile(compiled, backend="aot_eager", fullgraph=True)(x), y, atol=1e-6)
    assert torch.allclose(compiled.running_mean, layer.running_mean)
    assert torch.equal(pickle.loads(pickle.dumps(layer.eval()))(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.train()(x.bfloat16()).dtype is torch.bfloat16
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(torch.randn(1, 3))
    with pytest.raises(ValueError, match="received \\(2, 4\\)"):
        layer(torch.randn(2, 4))
    with pytest.raises(TypeError, match="floating point"):
        layer(torch.ones(2, 3, dtype=torch.int64))
