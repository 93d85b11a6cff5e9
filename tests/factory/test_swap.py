"""Surgery: complete, counted, and carrying over what keeps its meaning."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import SwapError, UnknownArgument, UnknownName, ZooError
from zoo.factory.groups import choose_groups

X = torch.randn(2, 3, 64, 64)


class Net(nn.Module):
    """A user's own model: shared modules, dropout, frozen part, a norm in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.shared = nn.BatchNorm2d(8)
        self.again = self.shared
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.shared(self.stem(x)))
        return self.head(self.drop(x).mean((2, 3)))


def test_report_counts() -> None:
    model = timm.create_model("resnet18", num_classes=10)
    before = sum(p.numel() for p in model.parameters())
    report = zoo.swap(model, norm="group_norm")
    assert report.complete
    assert len(report.replaced) == 20
    assert report.parameters_before == report.parameters_after == before
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert {r.old for r in report.replaced} == {"BatchNorm2d"}
    assert zoo.swap_report(model) is report
    assert "20 replaced (20 BatchNorm2d), 0 left" in str(report)


def test_same_keys_and_function_as_timms_group_norm_resnet() -> None:
    ours, theirs = zoo.create("gn_resnet50"), timm.create_model("resnet50_gn")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert (ours.eval()(X) - theirs.eval()(X)).abs().max() <= 1e-6


def test_zero_initialised_last_gain_is_kept() -> None:
    model = zoo.create("resnet18", norm="group_norm")
    assert all(bool((b.bn2.weight == 0).all()) for b in [*model.layer1, *model.layer4])
    assert bool((model.layer1[0].bn1.weight == 1).all())


def test_lost_zero_gain_is_said() -> None:
    model = timm.create_model("resnet18")
    report = zoo.swap(model, norm="positional_norm")
    notes = [r.note for r in report.replaced if "initialised to zero" in r.note]
    assert len(notes) == 8


def test_trained_affine_values_are_kept() -> None:
    model = Net()
    nn.init.normal_(model.stem[1].weight)
    wanted = model.stem[1].weight.detach().clone()
    zoo.swap(model, norm={"group_norm": {"num_groups": 2}})
    assert torch.equal(model.stem[1].weight, wanted)
    assert model.stem[1].num_groups == 2


def test_dtype_mode_frozen_and_shared() -> None:
    model = Net().double()
    model.stem.eval()
    model.stem[1].requires_grad_(False)
    zoo.swap(model, norm="group_norm")
    assert model.stem[1].weight.dtype == torch.float64
    assert not model.stem[1].training
    assert model.shared.training
    assert not any(p.requires_grad for p in model.stem[1].parameters())
    assert model.shared.weight.requires_grad
    assert model.shared is model.again


def test_fused_activation_and_dropout_stay() -> None:
    model = timm.create_model("test_efficientnet", norm_layer=None)
    fused = {n: m.act for n, m in model.named_modules() if type(m).__name__ == "BatchNormAct2d"}
    keys = [k for k in model.state_dict() if "running" not in k and "num_batches" not in k]
    zoo.swap(model, norm="group_norm")
    modules = dict(model.named_modules())
    assert fused
    for name, act in fused.items():
        assert modules[name].act is act
        assert isinstance(modules[name], nn.GroupNorm)
    assert list(model.state_dict()) == keys
    out = modules[next(iter(fused))](torch.randn(2, modules[next(iter(fused))].num_channels, 4, 4))
    assert torch.isfinite(out).all()


def test_fused_forward_is_norm_then_act() -> None:
    model = timm.create_model("test_efficientnet")
    zoo.swap(model, norm="group_norm")
    layer = next(m for m in model.modules() if type(m).__name__ == "GroupNormAct" and isinstance(m.act, nn.Module))
    x = torch.randn(2, layer.num_channels, 4, 4)
    plain = nn.functional.group_norm(x, layer.num_groups, layer.weight, layer.bias, layer.eps)
    assert torch.equal(layer(x), layer.act(plain.clone()))


def test_tokens_are_normalised_over_the_right_axis() -> None:
    """GroupNorm in a ViT must take statistics per sample over tokens and channels of a group."""
    model = timm.create_model("test_vit")
    zoo.swap(model, norm={"group_norm": {"num_groups": 2}})
    layer = model.norm
    x = torch.randn(3, 5, layer.num_channels) * 3 + 1
    expected = nn.functional.group_norm(x.movedim(-1, 1), 2, eps=layer.eps).movedim(1, -1)
    torch.testing.assert_close(layer(x), expected)


def test_layer_norm_on_maps_and_tokens() -> None:
    maps, tokens = timm.create_model("resnet18"), timm.create_model("test_vit")
    zoo.swap(maps, norm="layer_norm")
    zoo.swap(tokens, norm="layer_norm")
    y = maps.bn1(torch.randn(2, 64, 5, 5))
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 5, 5), atol=1e-5, rtol=0)
    assert isinstance(tokens.norm, nn.LayerNorm)
    tokens.norm.reset_parameters()
    z = tokens.norm(torch.randn(2, 5, 64) * 3 + 1)
    torch.testing.assert_close(z.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)


def test_batch_norm_in_a_transformer_and_on_vectors() -> None:
    model = timm.create_model("test_vit")
    zoo.swap(model, norm="batch_norm")
    y = model.norm(torch.randn(4, 6, model.norm.num_features) * 2 + 3)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(y.shape[-1]), atol=1e-5, rtol=0)
    vectors = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    zoo.swap(vectors, norm="layer_norm")
    assert vectors(torch.randn(3, 4)).shape == (3, 8)


def test_survives_deepcopy_pickle_and_state_dict() -> None:
    model = zoo.create("test_vit", norm="group_norm", act="mish").eval()
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        expected = model(x)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x), expected)
        other = zoo.create("test_vit", norm="group_norm", act="mish").eval()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x), expected)


def test_swapping_twice_and_back() -> None:
    model = timm.create_model("resnet18")
    keys = list(model.state_dict())
    zoo.swap(model, norm="group_norm")
    zoo.swap(model, norm="batch_norm")
    assert list(model.state_dict()) == keys


def test_activations_and_gates() -> None:
    model = timm.create_model("test_efficientnet")
    report = zoo.swap(model, act="mish")
    assert report.complete
    assert not any(isinstance(m, nn.SiLU) for m in model.modules())
    gates = [k for k in report.kept if k.by_design]
    assert all("gate" in k.reason for k in gates)


def test_channel_aware_activation() -> None:
    model = zoo.create("resnet18", act="frelu")
    assert len(zoo.swap_report(model).replaced) == 17
    assert model(X).shape == (2, 1000)


def test_activation_that_does_not_fit_says_where() -> None:
    model = timm.create_model("test_vit")
    before = copy.deepcopy(model)
    with pytest.raises(SwapError, match=r"can replace nothing in VisionTransformer: .*does not act on \(N, C, H, W\)"):
        zoo.swap(model, act="frelu")
    assert str(model) == str(before)


def test_convolution_keeps_weights_and_geometry() -> None:
    model = timm.create_model("resnet18")
    old = {n: m.weight.detach().clone() for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    zoo.swap(model, conv="weight_standardization")
    for name, weight in old.items():
        assert torch.equal(model.get_submodule(name).weight, weight)
    assert model.layer2[0].conv1.stride == (2, 2)
    assert model(X).shape == (2, 1000)


def test_same_padding_is_kept() -> None:
    model = timm.create_model("tf_efficientnet_lite0").eval()
    shapes: dict[str, torch.Size] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, o, n=name: shapes.__setitem__(n, o.shape))
    x = torch.randn(1, 3, 65, 65)
    model(x)
    first = dict(shapes)
    zoo.swap(model, conv="weight_standardization")
    shapes.clear()
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, o, n=name: shapes.__setitem__(n, o.shape))
    model(x)
    assert shapes == first


@pytest.mark.parametrize("backbone", ["resnet18", "test_resnet", "test_efficientnet", "regnetx_002"])
def test_pooling_resizes_the_classifier(backbone: str) -> None:
    model = zoo.create(backbone, pool={"isqrt_cov": {"reduction": 16}}, num_classes=7).eval()
    assert model.get_classifier().in_features == 16 * 17 // 2
    assert model(X).shape == (2, 7)


def test_pooling_that_cannot_be_resized() -> None:
    with pytest.raises(SwapError, match="layers between pooling"):
        zoo.create("mobilenetv3_small_050", pool="isqrt_cov")
    with pytest.raises(SwapError, match=r"\(N, H, W, C\)"):
        zoo.create("swin_tiny_patch4_window7_224", pool="isqrt_cov")
    with pytest.raises(SwapError, match="found none"):
        zoo.create("test_vit", pool="isqrt_cov")


def test_several_swaps_are_all_or_nothing() -> None:
    model = timm.create_model("vgg11", num_classes=2)
    before = str(model)
    with pytest.raises(SwapError, match="no layers that it could replace"):
        zoo.swap(model, act="mish", norm="group_norm")
    assert str(model) == before


def test_partial_needs_permission() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm((4, 5, 5)))
    with pytest.raises(SwapError, match=r"would leave 1 of 2 layers .*allow_partial=True"):
        zoo.swap(model, norm="group_norm")
    assert isinstance(model[0], nn.BatchNorm2d)
    report = zoo.swap(model, norm="group_norm", allow_partial=True)
    assert not report.complete
    assert report.left[0].path == "1"


def test_groups_that_do_not_divide() -> None:
    model = timm.create_model("resnet18")
    with pytest.raises(
        ZooError, match=r"group_norm at bn1: 64 channels do not divide into 7 groups; nearest that do: 1, 2, 4, 8"
    ):
        zoo.swap(model, norm={"group_norm": {"num_groups": 7}})
    assert isinstance(model.bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("channels", range(1, 130))
def test_group_policy(channels: int) -> None:
    groups = choose_groups(channels, 32)
    assert channels % groups == 0
    assert groups <= 32
    assert groups == 1 or channels // groups >= 2


@pytest.mark.parametrize(
    ("kwargs", "error", "expected"),
    [
        ({"norm": "grup_norm"}, UnknownName, "Did you mean 'group_norm'"),
        ({"act": "msh"}, UnknownName, "Did you mean 'mish'"),
        ({"norm": "frelu"}, UnknownName, "is of kind activation"),
        ({"norm": {"group_norm": {"num_grops": 4}}}, UnknownArgument, "Did you mean 'num_groups'"),
        ({"norm": ("group_norm", {})}, SwapError, "one name with its parameters"),
        ({"norm": {"a": {}, "b": {}}}, SwapError, "one name with its parameters"),
        ({}, UnknownArgument, "at least one of norm="),
    ],
)
def test_bad_specs(kwargs: dict, error: type[Exception], expected: str) -> None:
    model = Net()
    before = str(model)
    with pytest.raises(error, match=expected):
        zoo.swap(model, **kwargs)
    assert str(model) == before


def test_not_a_module() -> None:
    with pytest.raises(ZooError, match="received str"):
        zoo.swap("resnet18", norm="group_norm")


def test_meta_device_stays_meta() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet18")
    zoo.swap(model, norm="group_norm", act="mish")
    assert all(p.is_meta for p in model.parameters())


def test_places_that_are_kept():
    """The paper's FReLU networks: the stem and the last stage keep their ReLU."""
    model = zoo.create("resnet18", act={"frelu": {"keep": ["act1", "layer4.*"], "zero_init": True}}, num_classes=3)
    kinds = {n: type(m).__name__ for n, m in model.named_modules() if type(m).__name__ in {"ReLU", "FReLU"}}
    stays = {n for n in kinds if n == "act1" or n.startswith("layer4.")}
    assert len(stays) == 5
    assert {n for n, kind in kinds.items() if kind == "ReLU"} == stays
    assert len(kinds) > len(stays)
    report = zoo.swap_report(model)
    assert {k.path for k in report.kept if k.by_design} == stays
    with torch.no_grad():  # a gain of zero: the network is the one with ReLU
        x = torch.randn(2, 3, 64, 64)
        plain = zoo.create("resnet18", num_classes=3)
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
        torch.testing.assert_close(model.eval()(x), plain.eval()(x))


def test_keeping_a_place_that_is_not_there():
    with pytest.raises(SwapError, match=r"keep='layer9.*'.* matches none of act1"):
        zoo.create("resnet18", act={"frelu": {"keep": "layer9.*"}})
    with pytest.raises(SwapError, match="one place"):
        zoo.create("resnet18", pool={"isqrt_cov": {"keep": "global_pool"}})
