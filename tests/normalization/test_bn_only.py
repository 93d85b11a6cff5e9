"""The freeze helper: exactly gamma and beta move, and the control moves exactly as many weights."""

import copy

import pytest
import timm
import torch
from torch import nn

from zoo.normalization.bn_only import bn_only, random_weights_only, trainable_numbers


def net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=True), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


def train(model, steps=3, weight_decay=0.0):
    moved = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(moved, lr=0.5, momentum=0.9, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.arange(8) % 4).backward()
        optimizer.step()


def changed(before, after):
    return {k: int((v != before[k]).sum()) for k, v in after.items() if not torch.equal(v, before[k])}


def test_only_gamma_and_beta_move(parity):
    model = bn_only(net())
    assert trainable_numbers(model) == 2 * (8 + 6)
    before = copy.deepcopy(model.state_dict())
    train(model, weight_decay=0.1)
    after = changed(before, model.state_dict())
    learned = {k: v for k, v in after.items() if "running" not in k and "tracked" not in k}
    assert learned == {"1.weight": 8, "1.bias": 8, "4.weight": 6, "4.bias": 6}
    assert "1.running_mean" in after  # statistics still move
    frozen = [k for k in before if k not in after]
    error = max(float((model.state_dict()[k] - before[k]).abs().max()) for k in frozen)
    parity("bn_only", error, 0.0, oracle="state dict before and after training: only gamma, beta and statistics differ")


def test_initialisation_of_the_authors():
    model = nn.Sequential(nn.Conv2d(1, 2000, 1), nn.BatchNorm2d(2000))
    nn.init.ones_(model[1].bias)
    bn_only(model)
    assert model[1].weight.min() >= 0
    assert abs(float(model[1].weight.mean().detach()) - 0.5) < 0.03
    assert (model[1].bias == 0).all()
    kept = bn_only(net(), init="keep")
    assert (kept[1].weight == 1).all()


def test_output_layer():
    model = bn_only(net(), train_output=True)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "1.weight", "1.bias", "4.weight", "4.bias", "8.weight", "8.bias"
    ]  # fmt: skip
    named = bn_only(net(), train_output=True, output="3")
    assert named[3].weight.requires_grad
    assert not named[8].weight.requires_grad


def test_timm_model():
    model = bn_only(timm.create_model("test_efficientnet", num_classes=4))
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(names) == 2 * len(norms)


def test_control_moves_as_many_random_weights():
    model = random_weights_only(net(), per_channel=2, seed=1)
    assert trainable_numbers(model) == 2 * (8 + 6)
    before = copy.deepcopy(model.state_dict())
    train(model)
    learned = {
        k: v for k, v in changed(before, model.state_dict()).items() if "running" not in k and "tracked" not in k
    }
    assert learned == {"0.weight": 16, "3.weight": 12}
    per_filter = (model[0].weight != before["0.weight"]).flatten(1).sum(1)
    assert (per_filter == 2).all()
    same, other = random_weights_only(net(), seed=1), random_weights_only(net(), seed=2)
    assert torch.equal(same[0].weight.trained_mask, model[0].weight.trained_mask)
    assert not torch.equal(other[0].weight.trained_mask, model[0].weight.trained_mask)


def test_bad_input():
    with pytest.raises(ValueError, match="Sequential has none"):
        bn_only(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)))
    with pytest.raises(ValueError, match="init is uniform or keep"):
        bn_only(net(), init="ones")
    with pytest.raises(ValueError, match="no output layer 'head'"):
        bn_only(net(), train_output=True, output="head")
    with pytest.raises(ValueError, match="needs convolutions"):
        random_weights_only(nn.Linear(2, 2))
