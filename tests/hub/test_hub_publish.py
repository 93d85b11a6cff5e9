"""Round trip through a Hub: prepare, push in one commit, pin, load in a fresh process; timm loads the same repository."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import timm
import torch
import yaml
from hub_files import FILE, REPO
from loopback import sha256
from safetensors.torch import load

import zoo
from zoo.errors import HubError, LicenceError, PinError, WeightsError
from zoo.hub import vectors
from zoo.hub.card import Facts, metadata, render
from zoo.hub.download import fetch, obtain
from zoo.hub.lock import resolve, resolve_all
from zoo.hub.predict import class_names, open_image, predict, transforms
from zoo.hub.publish import collect, prepare, push
from zoo.hub.source import Source
from zoo.registry.lookup import registry
from zoo.registry.schema import Checkpoint, Input, Metric, Paper

ARCH, TARGET = "test_resnet", "zoo-tests/published"
METRIC = Metric(name="top1", value=98.5, unit="%", dataset="Digits", protocol="held-out fifth", source="zoo reproduce")
PAPER = Paper(
    id="group_norm", category="normalization", title="Group <b>Norm</b>alization", authors=("Y. Wu", "K. He"),
    venue="ECCV", year=2018, arxiv="1803.08494", summary="s",
)  # fmt: skip


def checkpoint(**changes: object) -> Checkpoint:
    usual = {
        "tag": "digits", "repo": TARGET, "file": FILE, "licence": "apache-2.0", "trained_on": "digits", "classes": 10,
        "metrics": (METRIC,), "recipe": "digits_small",
        "input": Input(size=(3, 64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    }  # fmt: skip
    return Checkpoint(**(usual | changes))


def facts(**changes: object) -> Facts:
    usual = {
        "name": "tiny_resnet", "checkpoint": checkpoint(), "papers": (PAPER,), "bibtex": ("@inproceedings{wu2018}",),
        "architecture": ARCH, "backbone": ARCH, "zoo_commit": "c" * 40, "parameters": 469_688,
    }  # fmt: skip
    return Facts(**(usual | changes))


@pytest.fixture
def model():
    return timm.create_model(ARCH, num_classes=10)


FRESH = """
import sys, json, torch
from zoo.hub.download import obtain
from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.weights import open_weights
import timm
found = obtain(Source("m", "t", sys.argv[1], "model.safetensors", branch=sys.argv[2]) if len(sys.argv[2]) < 40
               else Source("m", "t", sys.argv[1], "model.safetensors", commit=sys.argv[2]))
model, report = load_into(lambda: timm.create_model("test_resnet", num_classes=10), open_weights(found.path, found.source))
x = torch.load(sys.argv[3])
torch.save(model.eval()(x), sys.argv[3] + ".out")
print(found.source.commit, report.share)
theirs = timm.create_model("hf-hub:" + sys.argv[1], pretrained=True).eval()
assert theirs.pretrained_cfg["mean"] == (0.5, 0.5, 0.5) or theirs.pretrained_cfg["mean"] == [0.5, 0.5, 0.5]
torch.testing.assert_close(theirs(x), model(x), rtol=1e-5, atol=1e-5)
assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), model.state_dict().values()))
"""


def test_round_trip(hub, model, client, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bundle = prepare(model, facts(), TARGET, tmp_path / "bundle")
    assert TARGET not in hub.repos  # a dry run ends here: everything can be looked at
    assert "model.safetensors" in str(bundle)
    pinned = push(bundle)
    repo = hub.repos[TARGET]
    assert len(repo.commits) == 2  # the empty repository, then one commit
    assert set(repo.at("main").files) >= set(bundle.files)
    assert (pinned.commit, pinned.sha256) == (repo.refs["main"], bundle.sha256)
    monkeypatch.delenv("HF_TOKEN")

    repo.tags["v1"] = pinned.commit
    assert fetch(pinned).read_bytes() == (bundle.folder / FILE).read_bytes()
    x = torch.randn(2, 3, 64, 64)
    torch.save(x, tmp_path / "x.pt")
    with torch.no_grad():
        expected = model.eval()(x)
    for revision in ("main", "v1", pinned.commit):
        said = client(FRESH, TARGET, revision, str(tmp_path / "x.pt")) if revision == "v1" else None
        assert obtain(Source("m", "t", TARGET, FILE).at(revision)).source.commit == pinned.commit
        if said:
            assert said.stdout.split() == [pinned.commit, "1.0"]
            torch.testing.assert_close(torch.load(tmp_path / "x.pt.out"), expected, rtol=1e-5, atol=1e-5)
    assert vectors.replay(model, fetch(pinned.sibling("test/vectors.safetensors"))) == 0


def test_second_push_is_one_commit_more_and_moves_nothing_pinned(hub, model, tmp_path):
    first = push(prepare(model, facts(), TARGET, tmp_path / "a"))
    with torch.no_grad():
        model.fc.bias.add_(1)
    second = push(prepare(model, facts(), TARGET, tmp_path / "b"))
    assert first.commit != second.commit
    assert len(hub.repos[TARGET].commits) == 3
    assert fetch(first).read_bytes() != fetch(second).read_bytes()


def test_refused_push_says_so_without_the_token(hub, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bundle = prepare(model, facts(), TARGET, tmp_path / "a")
    hub.fault("403", "POST", "commit")
    with pytest.raises(HubError, match="publishing zoo-tests/published failed") as caught:
        push(bundle)
    assert "hf_secret" not in str(caught.value)
    assert len(hub.repos[TARGET].commits) == 1


def test_card_says_what_the_registry_says():
    card = render(facts(), TARGET)
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "timm"
    result = head["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == 98.5
    assert result["dataset"]["name"] == "Digits"
    for text in ("1803.08494", "@inproceedings{wu2018}", "digits_small", "c" * 40, "held-out fifth", "469,688"):
        assert text in card
    assert "<b>" not in card


@pytest.mark.parametrize("licence", ["unknown", "none"])
def test_licence_is_never_guessed(model, tmp_path, licence):
    with pytest.raises(LicenceError, match="never guessed"):
        prepare(model, facts(checkpoint=checkpoint(licence=licence)), TARGET, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_licence_of_its_own_name_and_non_commercial():
    head = metadata(facts(checkpoint=checkpoint(licence="cvnets-license")), TARGET)
    assert (head["license"], head["license_name"]) == ("other", "cvnets-license")
    assert "may not be used commercially" in render(facts(checkpoint=checkpoint(licence="cc-by-nc-4.0")), TARGET)


def test_a_model_that_is_not_plain_timm_is_not_published_as_one(tmp_path):
    other = timm.create_model("test_efficientnet", num_classes=10)
    with pytest.raises(WeightsError, match="not plain timm"):
        prepare(other, facts(), TARGET, tmp_path / "a")
    bundle = prepare(other, facts(architecture=None, swaps="norm=group_norm"), TARGET, tmp_path / "b")
    config = json.loads((bundle.folder / "config.json").read_text())
    assert "architecture" not in config
    assert config["paperzoo"]["swaps"] == "norm=group_norm"


def test_without_declared_input(model, tmp_path):
    with pytest.raises(WeightsError, match="no input"):
        prepare(model, facts(checkpoint=checkpoint(input=None)), TARGET, tmp_path / "a")


def test_collection_of_a_paper(hub):
    items = [("paper", "1803.08494"), ("model", REPO)]
    slug = collect("Group Normalization", "zoo-tests", items, token="hf_x")
    assert collect("Group Normalization", "zoo-tests", items, token="hf_x") == slug
    assert [(i["type"], i["id"]) for i in hub.collections[slug]["items"]] == items


# --------------------------------------------------------------------------- zoo lock


def test_pins_of_many_entries(hub, pinned, unpinned, tiny):
    missing = Source("gone", "t", "zoo-tests/gone", FILE)
    bundled = Source("own", "t", None, FILE, sha256="0" * 64, root="/")
    seen = []
    pins, problems = resolve_all([unpinned, missing, bundled], tell=lambda done, total: seen.append((done, total)))
    assert pins == {unpinned.key: {"commit": pinned.commit, "sha256": sha256(tiny), "size": len(tiny)}}
    assert len(problems) == 1
    assert "zoo-tests/gone" in problems[0]
    assert seen[-1] == (2, 2)
    assert not hub.requests("GET")


def test_pin_that_no_longer_holds_is_not_replaced_silently(hub, pinned):
    assert resolve(pinned) == pinned
    with pytest.raises(PinError, match="Look at what changed"):
        resolve(replace(pinned, sha256="0" * 64))
    hub.fault("headers", value={"X-Linked-Etag": None})
    with pytest.raises(PinError, match="no SHA-256"):
        resolve(pinned)


# --------------------------------------------------------------------------- predict


def test_transforms_follow_the_weights(tmp_path):
    from PIL import Image

    cfg = {
        "input_size": (3, 32, 32),
        "mean": (0.1, 0.2, 0.3),
        "std": (0.5, 0.4, 0.3),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
    grey = Image.new("RGB", (80, 50), (51, 102, 153))
    found = transforms(cfg)(grey)
    assert found.shape == (3, 32, 32)
    wanted = (torch.tensor([0.2, 0.4, 0.6]) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.4, 0.3])
    torch.testing.assert_close(found[:, 16, 16], wanted, atol=1e-6, rtol=1e-5)
    with pytest.raises(WeightsError, match="std"):
        transforms({"input_size": (3, 32, 32), "mean": (0, 0, 0)})


def test_predictions_are_named_and_ordered(model, tmp_path):
    from PIL import Image

    Image.new("RGB", (70, 90), (200, 10, 10)).save(tmp_path / "red.png")
    cfg = {
        "input_size": (3, 64, 64),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "label_names": [f"n{i}" for i in range(10)],
    }
    found = predict(model, cfg, [tmp_path / "red.png", tmp_path / "red.png"], top=3)
    assert found[0] == found[1]
    assert [g.probability for g in found[0]] == sorted((g.probability for g in found[0]), reverse=True)
    with torch.no_grad():
        logits = model.eval()(transforms(cfg)(open_image(tmp_path / "red.png"))[None])
    assert found[0][0].index == int(logits.argmax())
    assert found[0][0].name == f"n{found[0][0].index}"
    assert found[0][0].probability == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_names_of_imagenet_and_of_nothing():
    assert class_names({}, 1000)[207] == "golden retriever"
    assert class_names({}, 10)[3] == "class 3"


def test_pictures_that_are_none(tmp_path, monkeypatch):
    from PIL import Image

    from zoo.hub import predict as module

    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.new("L", (30, 30)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    for name in ("a.png", "c.png", "none.png"):
        with pytest.raises(WeightsError, match="not a picture"):
            open_image(tmp_path / name)
    assert open_image(tmp_path / "b.png", 1).mode == "L"
    monkeypatch.setattr(module, "MAX_PIXELS", 100)
    with pytest.raises(WeightsError, match="pixels"):
        open_image(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["siren_photo", "planar_flow_u1", "memn2n_babi", "vae_digits"])
def test_networks_without_pictures_are_published_with_vectors_of_their_own(name, tmp_path):
    """Points, words and named tuples: several inputs or outputs are recorded, and replayed after a round trip."""
    model, entry = zoo.create(name, pretrained=True), registry().model(name)
    found = replace(
        facts(), name=name, architecture=None, backbone=entry.backbone,
        checkpoint=entry.checkpoints.bundled[0].model_copy(update={"repo": TARGET, "file": FILE}),
    )  # fmt: skip
    bundle = prepare(model, found, TARGET, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert config["input_size"]
    assert ("mean" in config) == (name == "vae_digits")
    known = vectors.load(bundle.folder / vectors.FILE)
    counts = {"siren_photo": (1, 1), "planar_flow_u1": (1, 2), "memn2n_babi": (2, 1), "vae_digits": (1, 6)}
    assert tuple(sum(k.startswith(side) for k in known) for side in ("input", "output")) == counts[name]
    other = zoo.create(name)
    other.load_state_dict(load((tmp_path / FILE).read_bytes()))
    assert vectors.replay(other, known) == 0
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    with pytest.raises(WeightsError, match="does not compute"):
        vectors.replay(other, known)
