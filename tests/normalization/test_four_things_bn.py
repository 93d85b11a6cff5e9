"""Ghost batches, channel groups, example weighing, decay of gain and shift."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.normalization.four_things_bn import FourThingsBatchNorm2d, GainBiasDecay, weigh_examples, weighed_moments


def randomised(norm):
    norm = norm.double()
    for p in norm.parameters():
        nn.init.normal_(p)
    return norm


def loop(x, norm, size, groups, eps):
    """Ghost batch by ghost batch (example i in ghost i mod n/size) and group by group."""
    out, ghosts, each = torch.empty_like(x), len(x) // size, x.shape[1] // groups
    for b in range(ghosts):
        members = [i for i in range(len(x)) if i % ghosts == b]
        for g in range(groups):
            channels = slice(g * each, (g + 1) * each)
            values = torch.stack([x[i, channels] for i in members])
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / values.numel()
            for i, v in zip(members, values, strict=True):
                out[i, channels] = (v - mean) / (var + eps) ** 0.5
    c = (1, -1, 1, 1)
    return out * norm.weight.view(c) + norm.bias.view(c)


@pytest.mark.parametrize(("size", "groups"), [(6, None), (2, None), (3, 2), (2, 4), (1, 2), (6, 2)])
def test_plain_loop(parity, size, groups):
    norm = randomised(FourThingsBatchNorm2d(4, size, groups, eps=1e-2))
    x = torch.randn(6, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    y, expected = norm(x), loop(x, norm, size, groups or 4, 1e-2)
    probe, wanted = torch.randn_like(y), (x, norm.weight, norm.bias)
    found, grads = torch.autograd.grad(y, wanted, probe), torch.autograd.grad(expected, wanted, probe)
    error = max((a - b).abs().max().item() for a, b in zip((y, *found), (expected, *grads), strict=True))
    parity("four_things_bn", error, 1e-11, oracle="plain loop over ghost batches and channel groups")


def test_limits():
    x = torch.randn(6, 4, 3, 2, dtype=torch.float64)
    whole = FourThingsBatchNorm2d(4).double()
    assert torch.allclose(whole(x), F.batch_norm(x, None, None, training=True), atol=1e-12)
    assert torch.allclose(FourThingsBatchNorm2d(4, 64).double()(x), whole(x), atol=1e-12)  # more than the batch holds
    single = FourThingsBatchNorm2d(4, 1, 2, example_weight=1.0).double()
    assert torch.allclose(single(x), F.group_norm(x, 2), atol=1e-12)
    assert torch.allclose(single.eval()(x), F.group_norm(x, 2), atol=1e-9)
    partly = FourThingsBatchNorm2d(4, 1, 2).double().eval()  # without the weight, evaluation is not group norm
    assert (partly(x) - F.group_norm(x, 2)).abs().max() > 0.1


def test_channels_last_is_kept_and_right():
    x = torch.randn(4, 4, 3, 3)
    norm = FourThingsBatchNorm2d(4, 2)
    y = norm(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, norm(x), atol=1e-5)


def test_moments_are_those_of_the_whole_batch():
    norm = FourThingsBatchNorm2d(4, 2, momentum=0.25).double()
    x = torch.randn(6, 4, 3, 2, dtype=torch.float64) + 1
    norm(x)
    assert torch.allclose(norm.running_mean, 0.25 * x.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(norm.running_square, 0.75 + 0.25 * x.square().mean((0, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_evaluation_per_example(alpha):
    norm = randomised(FourThingsBatchNorm2d(4, example_weight=alpha, eps=1e-2)).eval()
    norm.running_mean.normal_()
    norm.running_square.copy_(norm.running_mean.square() + 0.7)
    x = torch.randn(3, 4, 3, 2, dtype=torch.float64)
    expected = torch.empty_like(x)
    for n in range(3):
        for c in range(4):
            mean = (1 - alpha) * norm.running_mean[c] + alpha * x[n, c].mean()
            square = (1 - alpha) * norm.running_square[c] + alpha * (x[n, c] ** 2).mean()
            expected[n, c] = (x[n, c] - mean) / (square - mean**2 + 1e-2) ** 0.5 * norm.weight[c] + norm.bias[c]
    assert torch.allclose(norm(x), expected, atol=1e-11)


def test_wrapping_a_trained_model(parity):
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet", num_classes=3).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.3)
            m.running_var.uniform_(0.5, 2)
            m.eps = 0.1
    keys, plain = list(model.state_dict()), copy.deepcopy(model)
    x = torch.randn(3, 3, 32, 32)
    before = model(x)
    weigh_examples(model, 0.3)
    assert list(model.state_dict()) == keys

    def rule(layer, args, output):  # replace the output of every norm by the per-example rule, written out
        (v,) = args
        rows = []
        for sample in v:
            m = 0.7 * layer.running_mean + 0.3 * sample.mean((1, 2))
            s = 0.7 * (layer.running_var + layer.running_mean**2) + 0.3 * (sample**2).mean((1, 2))
            y = (sample - m[:, None, None]) / (s - m**2 + layer.eps)[:, None, None] ** 0.5
            rows.append(y * layer.weight[:, None, None] + layer.bias[:, None, None])
        out = torch.stack(rows)
        return layer.act(layer.drop(out)) if hasattr(layer, "act") else out

    for m in plain.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_hook(rule)
    error = (model(x) - plain(x)).abs().max().item()
    assert (before - model(x)).abs().max() > 1e-3
    parity("inference_example_weighing", error, 1e-5, oracle="per-example loop")
    assert torch.equal(weigh_examples(model, 0.0)(x), before)


def test_wrapping_leaves_training_alone_and_survives_copies():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    x = torch.randn(4, 2, 6, 6)
    expected = copy.deepcopy(model)(x)
    weigh_examples(model, 0.5)
    weigh_examples(model, 0.2)  # the second call replaces the first
    assert len(model[1]._forward_pre_hooks) == 1
    twin = copy.deepcopy(model)
    assert torch.equal(model(x), expected)
    twin(x)
    assert torch.equal(model.eval()(x), twin.eval()(x))
    assert torch.allclose(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x), atol=1e-6)


def test_variance_is_never_negative():
    x = torch.full((1, 2, 2, 2), 1e3)
    _, var = weighed_moments(x, torch.full((2,), 1e3), torch.full((2,), 1e6), 0.5)
    assert (var >= 0).all()


def test_decay_gradient(parity):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.BatchNorm1d(4, affine=False)).double()
    for p in model.parameters():
        nn.init.normal_(p)
    GainBiasDecay(0.3)(model).backward()
    pairs = [(m.weight.grad, 0.3 * (m.weight - 1)) for m in model[1:3]]
    pairs += [(m.bias.grad, 0.3 * m.bias) for m in model[1:3]]
    error = max((a - b).abs().max().item() for a, b in pairs)
    assert model[0].weight.grad is None
    parity("gain_bias_decay", error, 1e-12, oracle="its gradient in closed form")


def test_refusals():
    with pytest.raises(ValueError, match="do not divide into 3 groups; allowed: 1, 2, 4"):
        FourThingsBatchNorm2d(4, num_groups=3)
    with pytest.raises(ValueError, match="batch of 5 does not divide into ghost batches of 2"):
        FourThingsBatchNorm2d(4, 2)(torch.randn(5, 4, 2, 2))
    with pytest.raises(ValueError, match="more than one value"):
        FourThingsBatchNorm2d(4, 1)(torch.randn(4, 4, 1, 1))
    with pytest.raises(ValueError, match="example_weight"):
        FourThingsBatchNorm2d(4, example_weight=1.5)
    with pytest.raises(ValueError, match="no batch norm layer"):
        weigh_examples(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no normalization layer"):
        GainBiasDecay()(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="floating-point"):
        FourThingsBatchNorm2d(4)(torch.ones(2, 4, 2, 2, dtype=torch.int64))
