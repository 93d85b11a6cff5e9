"""create: one name in, the thing out; and what it says to a wrong one."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import AmbiguousName, UnknownArgument, UnknownName, WeightsError, ZooError


def test_methods_by_kind() -> None:
    assert zoo.create("group_norm", 64).num_groups == 32
    assert zoo.create("group_norm", 64, 8).num_groups == 8
    assert zoo.create("group_norm", 64, num_groups=4, eps=1e-3).eps == 1e-3
    parameters = [nn.Parameter(torch.ones(3))]
    assert isinstance(zoo.create("lamb", parameters, lr=1e-3), torch.optim.Optimizer)
    assert isinstance(zoo.create("lans", parameters, lr=1e-3), torch.optim.Optimizer)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("2d", (2, 8, 3, 3)),
        ("1d", (2, 8, 5)),
        ("1d", (4, 8)),
        ("3d", (2, 8, 2, 3, 3)),
        ("channels_last", (2, 5, 8)),
        ("channels_last", (2, 3, 3, 8)),
    ],
)
@pytest.mark.parametrize("name", ["group_norm", "batch_norm", "layer_norm", "positional_norm"])
def test_norm_layouts(name: str, layout: str, shape: tuple[int, ...]) -> None:
    extra = {"num_groups": 2} if name == "group_norm" else {}
    layer = zoo.create(name, 8, layout=layout, **extra)
    x = torch.randn(shape)
    assert layer(x).shape == x.shape


def test_layouts_agree() -> None:
    """The same numbers whichever way the channels lie."""
    x = torch.randn(2, 8, 3, 4)
    for name in ("group_norm", "batch_norm", "layer_norm", "positional_norm"):
        extra = {"num_groups": 2} if name == "group_norm" else {}
        maps = zoo.create(name, 8, **extra)(x)
        tokens = zoo.create(name, 8, layout="channels_last", **extra)(x.movedim(1, -1)).movedim(-1, 1)
        torch.testing.assert_close(maps, tokens, atol=1e-5, rtol=1e-4)


def test_paper_ids() -> None:
    for paper in ("1803.08494", "Group Normalization", "gn"):
        assert isinstance(zoo.create(None, 64, paper=paper), nn.GroupNorm)


def test_name_and_paper_are_one_of() -> None:
    for kwargs in ({}, {"name": "group_norm", "paper": "gn"}):
        with pytest.raises(UnknownArgument, match="one of them"):
            zoo.create(**kwargs)


@pytest.mark.parametrize(
    ("typo", "right"),
    [
        ("resnet5o", "resnet50"),
        ("GroupNrom", "group_norm"),
        ("grup-norm", "group_norm"),
        ("vit_tiny_patch16_242", "vit_tiny_patch16_224"),
    ],
)
def test_near_names(typo: str, right: str) -> None:
    with pytest.raises(UnknownName) as caught:
        zoo.create(typo)
    assert right in caught.value.near


def test_separators_do_not_count() -> None:
    assert type(zoo.create("gn-resnet50")) is type(timm.create_model("resnet50"))


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (("resnet18",), {"num_clases": 10}, "Did you mean 'num_classes'"),
        (("test_vit",), {"num_clases": 10}, "Did you mean 'num_classes'"),
        (("gn_resnet8_digits",), {"num_clases": 10}, "Did you mean 'num_classes'"),
        (("group_norm", 64), {"num_grops": 8}, "Did you mean 'num_groups'"),
        (("positional_norm", 64), {"ep": 1e-3}, "Did you mean 'eps'"),
        (("positional_norm",), {}, "missing a required argument: 'num_channels'"),
        (("resnet18", 10), {}, "give its arguments by name"),
        (("group_norm", 64), {"pretrained": True}, "is a method"),
        (("group_norm", 64), {"norm": "batch_norm"}, "is a method"),
    ],
)
def test_wrong_arguments(args: tuple, kwargs: dict, expected: str) -> None:
    with pytest.raises(UnknownArgument, match=expected):
        zoo.create(*args, **kwargs)


def test_group_norm_that_does_not_divide() -> None:
    with pytest.raises(ZooError, match="66 channels do not divide into 32 groups; nearest that do: 6, 11, 22, 33"):
        zoo.create("group_norm", 66)


def test_unknown_layout() -> None:
    with pytest.raises(UnknownName, match=r"Layouts: 2d, 1d, 3d, channels_last"):
        zoo.create("group_norm", 64, layout="2dd")


def test_timm_arguments_pass_through() -> None:
    model = zoo.create(
        "resnet50",
        norm="group_norm",
        act="mish",
        conv="weight_standardization",
        pool={"isqrt_cov": {"reduction": 32}},
        num_classes=10,
        in_chans=1,
    )
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 10)
    report = zoo.swap_report(model)
    assert [p.swap for p in report.parts] == ["conv", "norm", "act", "pool"]
    assert report.complete
    assert all(
        type(m).__name__ in {"Mish", "ReLU"}
        for m in model.modules()
        if "act" in type(m).__module__ and not list(m.children())
    )


def test_get() -> None:
    assert zoo.get("group_norm") is timm.layers.GroupNorm
    assert callable(zoo.get("gn_resnet50"))


def test_no_swap_no_report() -> None:
    assert zoo.swap_report(zoo.create("test_resnet")) is None


def test_ambiguous_paper_lists_methods() -> None:
    with pytest.raises(AmbiguousName, match="batch_norm, batch_renorm"):
        zoo.create(paper="Normalization")


def test_timm_create_model_knows_ours() -> None:
    assert "gn_resnet50" in zoo.register_with_timm() or timm.is_model("gn_resnet50")
    model = timm.create_model("gn_resnet50", num_classes=3)
    assert model.fc.out_features == 3
    assert isinstance(model.bn1, nn.GroupNorm)
    assert "gn_resnet50" in timm.list_models("gn_*")
    assert zoo.register_with_timm() == []


# --------------------------------------------------------------------------- weights that need no network


def test_bundled_weights_account_for_every_key() -> None:
    model = zoo.create("gn_resnet8_digits", pretrained=True)
    report = zoo.load_report(model)
    assert report.share == 1.0
    assert not report.new
    assert not report.rejected
    assert set(report.loaded) == set(model.state_dict())


def test_bundled_weights_reach_their_accuracy() -> None:
    from zoo.training.heldout import digits_heldout

    model = zoo.create("gn_resnet8_digits", pretrained=True).eval()
    _, labels, x = digits_heldout()
    with torch.inference_mode():
        top1 = 100 * (model(x).argmax(1) == labels).float().mean().item()
    stated = zoo.info("gn_resnet8_digits").model.checkpoints.bundled[0].metrics[0].value
    assert top1 == pytest.approx(stated, abs=0.3)


def test_new_classes_and_channels() -> None:
    model = zoo.create("gn_resnet8_digits", pretrained=True, num_classes=3, in_chans=3)
    report = zoo.load_report(model)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    assert set(report.new) == {"fc.weight", "fc.bias"}
    assert set(report.adapted) == {"conv1.weight"}
    assert torch.isfinite(model.fc.weight).all()


def test_weights_of_another_norm_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"was trained with group_norm, norm='batch_norm'.*Lawful"):
        zoo.create("gn_resnet8_digits", pretrained=True, norm="batch_norm")
    with pytest.raises(WeightsError, match="the normalization of its architecture"):
        zoo.create("resnet18", pretrained=True, norm="group_norm")


def test_unknown_tag_and_no_weights() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'digits'"):
        zoo.create("gn_resnet8_digits", pretrained="digit")
    with pytest.raises(WeightsError, match="40 lower-case hex"):
        zoo.create("gn_resnet8_digits", pretrained="digits@main")


def test_offline_and_not_cached_says_how_to_prefetch(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="zoo download gn_resnet50 --tag a1h_in1k"):
        zoo.create("gn_resnet50", pretrained=True, offline=True)
