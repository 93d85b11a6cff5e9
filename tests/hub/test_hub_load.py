"""Loading: the same model as timm makes from the same file, every key accounted for, nothing initialised in vain."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from pathlib import Path

import pytest
import timm
import torch
from loopback import sha256
from safetensors.torch import save_file
from torch import nn

from zoo.errors import IntegrityError, WeightsError
from zoo.hub.deferred import DeferredInit
from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.timm_filter import checkpoint_filter
from zoo.hub.weights import open_weights

FAMILIES = json.loads((Path(__file__).parent / "families.json").read_text(encoding="utf-8"))
#: Models whose construction reads parameters, or has non-persistent buffers, or ties, or is plain: the fast subset.
FAST = ["byobnet", "convnext", "efficientnet", "mambaout", "maxxvit", "nfnet", "resnet", "vision_transformer",
        "vision_transformer_relpos", "starnet", "convit", "edgenext", "pvt_v2", "xcit", "eva", "levit"]  # fmt: skip
TINY = "test_resnet"


def stored(model: nn.Module, path: Path) -> Path:
    """Random weights, all different from any initial value, in a file."""
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-0.03, 0.07)
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)
    return path


def opened(path: Path):
    data = path.read_bytes()
    return open_weights(path, Source("m", "t", None, path.name, sha256=sha256(data), size=len(data), root="/"))


def timms(name: str, path: Path, **kwargs) -> nn.Module:
    overlay = {"file": str(path), "hf_hub_id": None, "url": "", "custom_load": False, "label_offset": 0}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)


def same(a: nn.Module, b: nn.Module) -> bool:
    def equal(x: dict, y: dict) -> bool:
        return x.keys() == y.keys() and all(torch.equal(x[k].nan_to_num(9.0), y[k].nan_to_num(9.0)) for k in x)

    return (
        equal(a.state_dict(), b.state_dict())
        and equal(dict(a.named_buffers()), dict(b.named_buffers()))  # those that no file holds, too
        and [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]
    )


@pytest.mark.parametrize("family", [pytest.param(f, marks=() if f in FAST else pytest.mark.slow) for f in FAMILIES])
def test_equal_to_timms_own_loading_for_one_model_of_each_family(family, tmp_path):
    name = FAMILIES[family]
    path = stored(timm.create_model(name), tmp_path / "m.safetensors")
    reference = timms(name, path)
    model, report = load_into(
        lambda: timm.create_model(name), opened(path), cfg=reference.pretrained_cfg, architecture=name
    )
    assert same(model, reference)
    assert report.share == 1.0
    assert not report.adapted
    assert not report.new
    assert not report.rejected
    if family in FAST:
        size = reference.pretrained_cfg.get("input_size", (3, 224, 224))
        x = torch.randn(1, *size)
        with torch.no_grad():
            ours, theirs = model.eval()(x), reference.eval()(x)
        # Weights are the same to the last bit; a kernel may sum in another order where they lie differently in memory.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(("classes", "chans"), [(7, 3), (0, 3), (1000, 1), (5, 5)])
def test_adaptations_equal_timms(tmp_path, classes, chans):
    path = stored(timm.create_model(TINY), tmp_path / "m.safetensors")
    reference = timms(TINY, path, num_classes=classes, in_chans=chans)
    model, report = load_into(
        lambda: timm.create_model(TINY, num_classes=classes, in_chans=chans),
        opened(path),
        cfg=timm.get_pretrained_cfg(TINY).to_dict(),
        num_classes=classes,
        in_chans=chans,
    )
    theirs = reference.state_dict()
    for key, value in model.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(value, theirs[key]), key
    assert ("conv1.0.weight" in report.adapted) == (chans != 3)
    assert set(report.rejected) == ({"fc.weight", "fc.bias"} if classes != 1000 else set())
    assert set(report.new) == ({"fc.weight", "fc.bias"} if classes not in (0, 1000) else set())
    if classes not in (0, 1000):  # a real initialisation, not what was in memory
        assert 0 < model.fc.weight.std() < 0.2
        assert model.fc.weight.unique().numel() > classes
    assert f"{len(report.loaded)} loaded" in str(report)


def test_new_parameters_start_as_in_an_ordinary_construction():
    def build() -> nn.Module:
        return timm.create_model("test_vit", num_classes=3)

    torch.manual_seed(0)
    plain = build()
    with DeferredInit() as deferred:
        model = build()
    assert not deferred.consumed
    torch.manual_seed(0)
    for parameter in model.parameters():
        deferred.replay(parameter)
    for (name, a), b in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert a.std().isclose(b.std(), rtol=0.2, atol=1e-4), name
        assert a.mean().isclose(b.mean(), atol=0.02), name


def test_deferral_sees_values_that_are_read():
    def weight_norm() -> nn.Module:
        return nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))

    def buffer_of_parameter() -> nn.Module:
        module = nn.Linear(4, 4)
        module.register_buffer("copy", module.weight.detach().clone(), persistent=False)
        return module

    def read() -> nn.Module:
        module = nn.Linear(4, 4)
        module.scale = module.weight.abs().max().item()
        return module

    for build in (weight_norm, buffer_of_parameter, read):
        with DeferredInit() as deferred:
            build()
        assert deferred.consumed, build.__name__
        saved = {k: v.clone() for k, v in build().state_dict().items()}
        model, _ = load_into(build, saved)
        assert all(torch.isfinite(b).all() for b in model.buffers())
    assert 0 < model.scale < 1


def test_views_and_data_are_deferred_and_replayed():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.empty(4, 4))
            self.a.data.normal_()
            with torch.no_grad():
                self.a[0].fill_(3.0)
                self.a[:, 1] = 5.0

    with DeferredInit() as deferred:
        model = Odd()
    assert not deferred.consumed
    assert deferred.pending(model.a)
    deferred.replay(model.a)
    assert model.a[0].tolist() == [3, 5, 3, 3]
    assert model.a[:, 1].tolist() == [5] * 4
    assert model.a[2, 2] != 0


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.a.bias.requires_grad_(False)


def test_parameters_keep_identity_ties_and_flags():
    file = {k: torch.rand_like(v) for k, v in Tied().state_dict().items() if k != "b.weight"}
    model, report = load_into(Tied, file)
    assert model.a.weight is model.b.weight
    assert torch.equal(model.b.weight, file["a.weight"])
    assert not model.a.bias.requires_grad
    assert report.share == 1.0
    clone = pickle.loads(pickle.dumps(deepcopy(model)))
    assert torch.equal(clone.a.weight, model.a.weight)


def test_model_trains_and_the_file_stays(tmp_path):
    path = stored(timm.create_model(TINY), tmp_path / "m.safetensors")
    before = path.read_bytes()
    model, _ = load_into(lambda: timm.create_model(TINY), opened(path))
    model.train()(torch.randn(2, 3, 64, 64)).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert path.read_bytes() == before
    again, _ = load_into(lambda: timm.create_model(TINY), opened(path))
    assert not torch.equal(again.fc.weight, model.fc.weight)


def test_half_precision_files_become_the_models_dtype():
    file = {k: v.half() if v.is_floating_point() else v for k, v in timm.create_model(TINY).state_dict().items()}
    model, _ = load_into(lambda: timm.create_model(TINY), file)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_position_embeddings_of_another_grid_are_resampled_as_timm_does(tmp_path):
    name = "test_vit"
    path = stored(timm.create_model(name, img_size=96), tmp_path / "m.safetensors")
    reference = timms(name, path)
    model, report = load_into(
        lambda: timm.create_model(name), opened(path), cfg=reference.pretrained_cfg, architecture=name
    )
    assert same(model, reference)
    assert list(report.adapted) == ["pos_embed"]
    with pytest.raises(WeightsError, match="pos_embed"):
        load_into(lambda: timm.create_model(name), opened(path), cfg=reference.pretrained_cfg)


def test_filters_are_the_ones_that_timm_uses():
    assert checkpoint_filter("resnet18") is None
    assert checkpoint_filter("convnext_atto").__name__ == "checkpoint_filter_fn"
    from timm.models import _builder

    assert _builder.load_pretrained.__module__ == "timm.models._builder"


@pytest.mark.parametrize("direction", ["bn to gn", "gn to bn"])
def test_weights_of_another_norm_name_the_lawful_choices(direction):
    theirs, ours = ("test_resnet", group) if direction == "bn to gn" else (group, "test_resnet")
    file = (theirs() if callable(theirs) else timm.create_model(theirs)).state_dict()
    build = ours if callable(ours) else lambda: timm.create_model(ours)
    with pytest.raises(WeightsError, match=r"trained with .*norm.*Choose: gn_resnet50, pretrained=False"):
        load_into(build, file, choices=("gn_resnet50", "pretrained=False"))


def group() -> nn.Module:
    from timm.layers import GroupNormAct

    model = timm.create_model("test_resnet")
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], GroupNormAct(module.num_features, group_size=8, apply_act=False))
    return model


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_strict_by_default(fault):
    file = dict(timm.create_model(TINY).state_dict())
    if fault == "missing":
        del file["fc.bias"]
    elif fault == "surplus":
        file["extra.weight"] = torch.zeros(1)
    else:
        file["fc.bias"] = torch.zeros(3)
    with pytest.raises(WeightsError, match="do not fit"):
        load_into(lambda: timm.create_model(TINY), file)
    model, report = load_into(lambda: timm.create_model(TINY), file, strict=False)
    assert ("fc.bias" in report.new) == (fault != "surplus")
    assert set(report.rejected) == {"surplus": {"extra.weight"}, "shape": {"fc.bias"}, "missing": set()}[fault]
    assert torch.isfinite(model.fc.bias).all()
    assert model.fc.bias.abs().max() < 1


def test_other_number_of_classes_must_be_asked_for():
    file = timm.create_model(TINY, num_classes=10).state_dict()
    with pytest.raises(WeightsError, match="num_classes="):
        load_into(lambda: timm.create_model(TINY), file, cfg={"num_classes": 1000, "classifier": "fc"})


def test_altered_file_reaches_no_model(tmp_path):
    path = stored(timm.create_model(TINY), tmp_path / "m.safetensors")
    good = path.read_bytes()
    source = Source("m", "t", None, path.name, sha256=sha256(good), size=len(good), root="/")
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        load_into(lambda: timm.create_model(TINY), open_weights(path, source))
