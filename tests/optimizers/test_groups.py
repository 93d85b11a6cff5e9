"""Exclusion lists on timm models: which tensors they name, and that decay and trust ratio leave exactly those alone."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from timm.optim._param_groups import param_groups_weight_decay

import zoo
from zoo.optimizers.groups import PRESETS, RULES, is_norm, parameter_groups

MODELS = {
    "resnet18": {"num_classes": 5},
    "vit_tiny_patch16_224": {"num_classes": 5, "img_size": 32, "depth": 2},
    "convnext_atto": {"num_classes": 5, "depths": (1, 1, 1, 1)},
}
#: Norm layers of these models by their names, told by hand.
BY_NAME = {
    "resnet18": r"(^|\.)bn\d\.|\.downsample\.1\.|\.bias$",
    "vit_tiny_patch16_224": r"(^|\.)(norm\d?|fc_norm|q_norm|k_norm)\.|\.bias$",
    "convnext_atto": r"(^|\.)norm\.|^stem\.1\.|\.downsample\.0\.|\.bias$",
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {name: timm.create_model(name, **options) for name, options in MODELS.items()}


def names(groups, decayed: bool) -> set[str]:
    return {n for g in groups for n in g["param_names"] if (g["weight_decay"] > 0) == decayed}


@pytest.mark.parametrize("name", list(MODELS))
def test_norm_and_bias_by_hand(models, name):
    model = models[name]
    groups = parameter_groups(model, "lamb", 0.01)
    everything = {n for n, _ in model.named_parameters()}
    spared = {n for n in everything if re.search(BY_NAME[name], n)}
    assert names(groups, False) == spared
    assert names(groups, True) == everything - spared
    assert spared
    assert everything - spared
    by_id = dict(model.named_parameters())
    for g in groups:
        assert all(by_id[n] is p for n, p in zip(g["param_names"], g["params"], strict=True))
    if name == "convnext_atto":  # LayerScale is neither a norm nor a bias; timm's rule takes it too
        assert any(n.endswith("gamma") for n in names(groups, True))
    if name.startswith("vit"):
        assert {"cls_token", "pos_embed"} <= names(groups, True)


@pytest.mark.parametrize("name", list(MODELS))
def test_one_dimensional_is_timms_rule(models, name):
    model = models[name]
    theirs = {g["weight_decay"]: {id(p) for p in g["params"]} for g in param_groups_weight_decay(model, 0.01)}
    ours = {
        g["weight_decay"]: {id(p) for p in g["params"]}
        for g in parameter_groups(model, "lars", 0.01, "one_dimensional")
    }
    assert ours == theirs


def moved(model, optimizer) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Every parameter before and after one step."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    return {n: (before[n], p.detach()) for n, p in model.named_parameters()}


def fresh(name: str, gradient: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **MODELS[name]).double()
    for p in model.parameters():
        p.data.normal_()
        p.grad = torch.randn_like(p) if gradient == "random" else torch.zeros_like(p)
    return model


@pytest.mark.parametrize("optimizer", list(PRESETS))
@pytest.mark.parametrize("name", list(MODELS))
def test_decay_leaves_the_excluded_alone(name, optimizer):
    """With zero gradients only decay moves anything: all but the excluded; with nothing excluded, everything."""
    for rule in (None, "norm_and_bias"):
        model = fresh(name, "zero")
        groups = parameter_groups(model, optimizer, 0.1, rule)
        made = zoo.create(optimizer, groups, lr=0.1)
        assert [g["weight_decay"] for g in made.param_groups] == [g["weight_decay"] for g in groups]
        chosen = PRESETS[optimizer].rule if rule is None else rule
        assert len(groups) == (1 if chosen == "nothing" else 2)
        spared = names(groups, False)
        for n, (a, b) in moved(model, made).items():
            assert torch.equal(a, b) == (n in spared), n


@pytest.mark.parametrize("name", list(MODELS))
def test_lamb_gives_the_excluded_adams_step(name):
    model = fresh(name, "random")
    groups = parameter_groups(model, "lamb", 0.01)
    spared = names(groups, False)
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    for n, (a, b) in moved(model, zoo.create("lamb", groups, lr=0.02)).items():
        if n in spared:  # Adam's first step
            torch.testing.assert_close(a - b, 0.02 * grads[n] / (grads[n].abs() + 1e-6))
        else:  # that of LAMB the rate times the norm of the weights
            assert float((a - b).norm() / a.norm()) == pytest.approx(0.02, rel=1e-6)


@pytest.mark.parametrize("name", list(MODELS))
def test_lars_gives_the_excluded_sgds_step(name):
    model = fresh(name, "random")
    groups = parameter_groups(model, "lars", 0.01)
    spared = names(groups, False)
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    for n, (a, b) in moved(model, zoo.create("lars", groups, lr=0.5)).items():
        if n in spared:
            torch.testing.assert_close(a - b, 0.5 * grads[n])
        else:
            ratio = 1e-3 * a.norm() / (grads[n].norm() + 0.01 * a.norm())
            torch.testing.assert_close(a - b, 0.5 * ratio * (grads[n] + 0.01 * a), rtol=1e-5, atol=1e-9)


def test_lans_adapts_everything():
    """As its authors' code: with random gradients no tensor moves further than the rate times its norm."""
    model = fresh("vit_tiny_patch16_224", "random")
    groups = parameter_groups(model, "lans", 0.01)
    assert names(groups, False) == set()
    shares = [float((a - b).norm() / a.norm()) for a, b in moved(model, zoo.create("lans", groups, lr=0.02)).values()]
    assert max(shares) <= 0.02 * (1 + 1e-9)
    assert min(shares) > 0.01  # biases and gains among them


@pytest.mark.parametrize("optimizer", ["adax_w", "adabound"])
def test_no_coupling_elsewhere(optimizer):
    """Decay aside, excluded tensors take the same step: groups of these optimizers have no ratio to lose."""
    ends = []
    for rule in ("nothing", "norm_and_bias"):
        model = fresh("convnext_atto", "random")
        made = zoo.create(optimizer, parameter_groups(model, optimizer, 0.0, rule), lr=0.02)
        ends.append([b for _, b in moved(model, made).values()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_shared_and_frozen_parameters_and_own_rules():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 3))
    model[2].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    decayed, spared = parameter_groups(model, "lamb", 0.1)
    assert decayed["param_names"] == ["0.weight"]
    assert spared["param_names"] == ["0.bias", "1.weight", "1.bias"]
    only = parameter_groups(model, "lamb", 0.1, lambda owner, name, p: isinstance(owner, torch.nn.LayerNorm))
    assert names(only, False) == {"1.weight", "1.bias"}
    assert set(RULES) == {"norm_and_bias", "one_dimensional", "nothing"}
    attention = torch.nn.MultiheadAttention(4, 2)
    assert names(parameter_groups(attention, "lamb", 0.1), False) == {"in_proj_bias", "out_proj.bias"}


def test_norms_of_the_package_are_norms():
    for method in zoo.list_methods(kind="norm"):
        layer = zoo.create(method, 32)
        assert is_norm(layer) or not list(layer.parameters(recurse=False)), method
    assert not is_norm(torch.nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adamw", 0.1), "knows lamb"),
        (("lamb", -0.1), "weight_decay >= 0, received -0.1"),
        (("lamb", 0.1, "bn"), "rules norm_and_bias"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(torch.nn.Linear(2, 2), *arguments)
    with pytest.raises(ValueError, match="without trainable parameters"):
        parameter_groups(torch.nn.ReLU(), "lamb", 0.1)
