"""A run of one's own to the Hub: network and facts from the folder of a run alone, without a path of the machine."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from zoo.cli.app import app
from zoo.errors import IntegrityError, LicenceError, UnknownName, WeightsError
from zoo.hub import vectors
from zoo.hub.card import metadata, render
from zoo.hub.publish import prepare
from zoo.training.engine import train
from zoo.training.publish import from_run
from zoo.training.publish_facts import identity_of, portable_fields
from zoo.training.recipe import load

REPO = "zoo-tests/my-digits"
FIELDS: dict[str, Any] = {
    "summary": "A perceptron on digits",
    "model": {"name": "zoo.models.mlp:mlp", "args": {"hidden": [16]}},
    "data": {"name": "digits", "test": 300, "validation": 0.1},
    "noise": {"name": "symmetric_exclusive", "rate": 0.4, "seed": 7},
    "method": {"gce": {"q": 0.6}},
    "optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9}},
    "epochs": 3,
    "batch": 256,
    "seed": 5,
}


def fields(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FIELDS), **changes}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run and what the engine returned."""
    folder = tmp_path_factory.mktemp("machine") / "run"
    return folder, train(load(fields()), folder, device="cpu")


def written(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def snippet(card: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The model that the card's own Python makes."""
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: str(weights))
    found: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], found)
    return found["model"]


def test_network_and_figures_are_those_of_the_run(run, tmp_path, monkeypatch):
    folder, result = run
    state = torch.random.get_rng_state()
    model, facts = from_run(folder, "mit")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    images = result.data.take(result.data.test, torch.arange(300))
    with torch.no_grad():
        accuracy = 100 * float((model(images).argmax(1) == result.data.test.labels).double().mean())
    report = result.report
    assert round(accuracy, 4) == report["last"]["test"] == facts.checkpoint.metrics[0].value

    bundle = prepare(model, facts, REPO, tmp_path / "out")
    kept, saved = load_file(folder / "last.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert kept.keys() == saved.keys()
    assert all(torch.equal(kept[k], saved[k]) for k in kept)
    card = (bundle.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "mit"
    noise = f"labels symmetric_exclusive 0.4 with seed 7 ({report['noise']['wrong_labels']} wrong"
    assert noise in card
    protocols = ("last epoch (3 of 3)", f"best epoch by the noisy validation split ({report['best']['epoch']} of 3)")
    for which, protocol in zip(("last", "best"), protocols, strict=True):
        assert re.search(rf"\| {report[which]['test']:g} % \| 300 held-out .* \| {re.escape(protocol)}", card), which
    for text in ("1805.07836", "gce", load(fields()).recipe.digest(), "A perceptron on digits."):
        assert text in card
    assert f"{report['noise']['memorised']:g} % | the training labels that are wrong" in card

    config = json.loads((bundle.folder / "config.json").read_text())
    cfg = config["pretrained_cfg"]
    assert (config["num_classes"], cfg["input_size"], cfg["mean"], cfg["std"]) == (10, [1, 8, 8], [0.5], [0.5])
    assert cfg["label_names"] == [str(i) for i in range(10)]
    again = snippet(card, bundle.folder / "model.safetensors", monkeypatch)
    assert vectors.replay(again, vectors.load(bundle.folder / vectors.FILE)) == 0
    recipe = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)[0])
    assert load(recipe).recipe == load(fields()).recipe


def test_best_weights_are_another_file(run):
    folder, result = run
    model, facts = from_run(folder, "mit", "best", name="mine")
    assert (facts.name, facts.checkpoint.tag) == ("mine", "best")
    assert facts.checkpoint.metrics[0].value == result.report["best"]["test"]
    assert "these weights" in facts.checkpoint.metrics[0].protocol
    assert "not these weights" in facts.checkpoint.metrics[1].protocol
    told = metadata(facts, "me/mine")["model-index"][0]["results"]  # for machines: only the figure of these weights
    assert [m["value"] for r in told for m in r["metrics"]] == [result.report["best"]["test"]]
    kept = load_file(folder / "best.safetensors")
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


def test_what_is_refused(run, tmp_path):
    folder, _ = run
    for licence in ("", "unknown", "none"):
        with pytest.raises(LicenceError, match="--licence"):
            from_run(folder, licence)
    with pytest.raises(UnknownName, match="One of: last, best"):
        from_run(folder, "mit", "lats")
    with pytest.raises(WeightsError, match="my_digits"):
        from_run(folder, "mit", name="My Digits")
    with pytest.raises(WeightsError, match=r"has no report\.json"):
        from_run(tmp_path, "mit")

    report = json.loads((folder / "report.json").read_text())

    def refused(match: str, error: type[Exception] = WeightsError, **changes: Any) -> None:
        changed = {k: v for k, v in {**report, **changes}.items() if v != "gone"}
        (tmp_path / "report.json").write_text(json.dumps(changed))
        with pytest.raises(error, match=match):
            from_run(tmp_path, "mit")

    refused(r"no last\.safetensors")
    (tmp_path / "last.safetensors").write_bytes(b"no weights")
    refused("not a sound file", IntegrityError)
    (tmp_path / "last.safetensors").write_bytes((folder / "last.safetensors").read_bytes())
    refused("writes it anew", classes="gone")
    refused("it lacks samples", samples="gone")
    refused("another run", fields=fields(seed=6))
    refused("another run", last={**report["last"], "epoch": 2})
    refused(r"2 images to|does not fit", Exception, classes=["a", "b", "c"])
    save_file({"1.weight": torch.zeros(2, 2)}, tmp_path / "last.safetensors")
    refused("another run")
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(WeightsError, match="not the report of a run"):
        from_run(tmp_path, "mit")


def test_pair_is_published_as_the_network_that_was_measured(tmp_path):
    changes = {
        "method": {"co_teaching": {"forget_rate": 0.4}},
        "epochs": 1,
        "data": {"name": "digits", "validation": 0.0},
    }
    result = train(load(fields(**changes)), tmp_path / "run", device="cpu")
    model, facts = from_run(tmp_path / "run", "mit")
    nets = result.algorithm.get_trainable_module().nets
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(v, first[k]) for k, v in model.state_dict().items())
    assert not torch.equal(first["1.weight"], second["1.weight"])
    assert "this is the first" in facts.summary
    assert [p.id for p in facts.papers] == ["co_teaching"]
    with pytest.raises(WeightsError, match="no validation split"):
        from_run(tmp_path / "run", "mit", "best")


def test_folder_of_pictures_with_a_swapped_model_leaves_its_path_at_home(tmp_path, monkeypatch):
    """Class names and side are told, though the recipe has neither; the place of the pictures is not."""
    for i, kind in enumerate(("cat", "dog")):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for n in range(8):
            Image.new("RGB", (16, 16), (20 * n, 100 * i, 9)).save(tmp_path / "pets" / kind / f"{n}.png")
    recipe = fields(
        model={"name": "zoo.models.resnet:resnet8", "swaps": {"norm": {"group_norm": {"num_groups": 4}}}},
        data={"path": str(tmp_path / "pets"), "validation": 0.0, "mean": [0.1307, 0.5, 0.4], "std": [0.3081, 0.5, 0.5]},
        noise=None, method="cross_entropy", epochs=1, batch=8,
    )  # fmt: skip
    train(load(recipe), tmp_path / "run", device="cpu")
    model, facts = from_run(tmp_path / "run", "cc-by-4.0")
    bundle = prepare(model, facts, REPO, tmp_path / "out")
    cfg = json.loads((bundle.folder / "config.json").read_text())["pretrained_cfg"]
    assert (cfg["input_size"], cfg["label_names"]) == ([3, 16, 16], ["cat", "dog"])
    assert (cfg["mean"], cfg["std"]) == ([0.1307, 0.5, 0.4], [0.3081, 0.5, 0.5])
    card = (bundle.folder / "README.md").read_text()
    assert "samples of pets, labels as given" in card
    assert "1803.08494" in card
    assert not [name for name, data in written(bundle.folder).items() if str(tmp_path).encode() in data]
    again = snippet(card, bundle.folder / "model.safetensors", monkeypatch)
    assert vectors.replay(again, vectors.load(bundle.folder / vectors.FILE)) == 0


def test_plain_timm_loads_alone(tmp_path):
    recipe = fields(model="test_resnet", epochs=1, data={"name": "digits", "test": 1500}, batch=64)
    train(load(recipe), tmp_path / "run", device="cpu")
    model, facts = from_run(tmp_path / "run", "mit")
    assert facts.architecture == "test_resnet"
    prepare(model, facts, REPO, tmp_path / "out")  # timm's own model answers the vectors, or this raises
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_args"] == {"in_chans": 1}


@pytest.mark.parametrize(
    ("path", "kept"),
    [("/home/me/pets", "pets"), ("~/data/pets/", "pets"), ("C:\\data\\pets", "pets"), ("../pets", "pets")],
)
def test_paths_are_told_by_their_last_part(path, kept):
    given = fields(data={"name": "folder", "path": path}, model={"name": "m", "args": {"file": "/data/x.bin"}})
    found = portable_fields(given)
    assert (found["data"]["path"], found["model"]["args"]["file"]) == (kept, "x.bin")
    assert given["data"]["path"] == path
    timm = portable_fields({"data": {"name": "timm", "path": "hfds/owner/set", "root": "/cache"}})
    assert timm == {"data": {"name": "timm", "path": "hfds/owner/set"}}
    assert portable_fields({"data": {"name": "timm", "path": "wds//mnt/shards"}})["data"]["path"] == "wds/shards"


def test_names():
    assert [identity_of(n) for n in ("My.Digits-v2", "2024_run", "___")] == ["my_digits_v2", "model_2024_run", "model"]


def test_command(run, tmp_path, monkeypatch):
    folder, result = run
    monkeypatch.setenv("COLUMNS", "300")

    def publish(*argv: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["publish", *argv, "--to", REPO])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output + str(done.exception or "")

    said = publish(str(folder), "--licence", "mit", "--weights", "best", "--folder", str(tmp_path / "out"))
    assert "dry run: nothing was sent" in said
    assert "collection 'Generalized Cross Entropy" in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# my_digits (best)" in card
    assert f"{result.report['best']['test']:g} %" in card
    assert not [name for name, data in written(tmp_path / "out").items() if str(folder.parent).encode() in data]
    assert "--licence" in publish(str(folder), code=1)
    assert "--weights" in publish(str(folder), "--licence", "mit", "--tag", "digits", code=2)
    assert "report.json" in publish(str(tmp_path), "--licence", "mit", code=1)
    assert "gn_resnet8_digits" in publish("gn_resnet8_digit", "--licence", "mit", code=1)
    assert "--licence" in publish("gn_resnet8_digits", "--licence", "mit", code=2)


def test_card_without_a_run_is_as_before(run):
    from dataclasses import replace

    _, facts = from_run(run[0], "mit")
    card = render(replace(facts, build="", recipe=""), REPO)
    assert f'import zoo\nmodel = zoo.create("{facts.name}", pretrained="last")' in card
    assert "## Recipe" not in card
