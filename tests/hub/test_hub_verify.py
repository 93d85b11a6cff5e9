"""Publish by the command line, list, download by branch, tag and commit, load in a fresh process, replay the test vectors."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from huggingface_hub import HfApi
from loopback import sha256
from safetensors.torch import load, save, save_file
from typer.testing import CliRunner

import zoo
from zoo.cli.app import app
from zoo.errors import HubError, WeightsError
from zoo.hub import vectors
from zoo.registry.lookup import registry, use

REPO, NAME, WEIGHTS = "zoo-tests/digits", "gn_resnet8_digits", "model.safetensors"
FRESH = """
import sys, torch, zoo
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from zoo.hub.download import fetch
from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.weights import open_weights
original = load_file(sys.argv[1])
commit = sys.argv[2]
for revision in ("main", "v1", commit):
    source = Source("digits", "digits", "zoo-tests/digits", "model.safetensors").at(revision)
    path = fetch(source)
    theirs = hf_hub_download("zoo-tests/digits", "model.safetensors", revision=revision, cache_dir=sys.argv[3])
    assert path.read_bytes() == open(theirs, "rb").read()
    assert commit in str(path), path
zoo.load_registry(sys.argv[4])
model = zoo.create("published_digits", pretrained=True)
state = model.state_dict()
assert state.keys() == original.keys()
assert all(state[k].dtype == v.dtype and torch.equal(state[k], v) for k, v in original.items())
print(zoo.load_report(model).share)
"""


def run(*argv: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(argv))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture
def published(hub, tmp_path, monkeypatch):
    """``publish(extra files)``: the bundled digits network on the Hub; returns a registry file whose entry pins it, merged."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("COLUMNS", "300")

    def publish(extra: dict[str, bytes] | None = None) -> Path:
        run("publish", NAME, "--to", REPO, "--no-dry-run")
        repo = hub.repos[REPO]
        commit = repo.commit(extra) if extra else repo.refs["main"]
        repo.tags["v1"] = commit
        record = copy.deepcopy(registry().raw.models[NAME])
        (checkpoint,) = record["checkpoints"].pop("bundled")
        record["checkpoints"]["hub"] = [checkpoint | {"repo": REPO, "file": WEIGHTS, "commit": commit}]
        for own in ("id", "aliases"):
            record.pop(own, None)
        data = repo.at(commit).files[WEIGHTS]
        record["checkpoints"]["hub"][0] |= {"sha256": sha256(data), "size": len(data)}
        path = tmp_path / "ours.yaml"
        path.write_text(yaml.safe_dump({"models": {"published_digits": record}}))
        use(None)
        zoo.load_registry(path)
        hub.log.clear()
        return path

    yield publish
    use(None)


def test_round_trip_by_branch_tag_and_commit_to_the_last_bit(hub, published, client, tmp_path, monkeypatch):
    entry = published()
    monkeypatch.delenv("HF_TOKEN")
    api = HfApi(endpoint=hub.url, token=False)
    assert REPO in {m.id for m in api.list_models(author="zoo-tests")}
    assert {"README.md", "config.json", WEIGHTS, "test/vectors.safetensors"} <= set(api.list_repo_files(REPO))
    assert {r.name for r in api.list_repo_refs(REPO).tags} == {"v1"}
    original = zoo.create(NAME, pretrained=True)
    save_file({k: v.clone() for k, v in original.state_dict().items()}, tmp_path / "original.safetensors")
    commit = hub.repos[REPO].refs["main"]
    said = client(FRESH, str(tmp_path / "original.safetensors"), commit, str(tmp_path / "theirs"), str(entry))
    assert said.stdout.strip() == "1.0"
    assert not any("authorization" in h for m, _, h in hub.log if m in ("GET", "HEAD"))


def test_verify_replays_published_vectors(hub, published, monkeypatch):
    published()
    run("download", "published_digits", "--no-progress")
    found = json.loads(run("verify", "published_digits", "--replay", "--json"))
    assert found["pinned_by_registry"]
    assert 0 <= found["vectors_error"] < 1e-4
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the vectors are cached by now
    hub.log.clear()
    assert "test vectors answered with an error of" in run("verify", "published_digits", "--replay")
    assert hub.log == []


def test_verify_refuses_vectors_that_the_weights_do_not_answer(hub, published):
    known = vectors.make(zoo.create(NAME, pretrained=True), (1, 8, 8))
    other = save({"input": known["input"], "output": known["output"].flip(1).contiguous()})
    published({vectors.FILE: other})
    run("download", "published_digits", "--no-progress")
    assert "agrees" in run("verify", "published_digits")
    with pytest.raises(WeightsError, match="does not compute what its test vectors say"):
        CliRunner().invoke(app, ["verify", "published_digits", "--replay"], catch_exceptions=False)


def test_verify_replays_the_vectors_that_timms_test_models_carry(hub, monkeypatch):
    torch.manual_seed(1)
    model = timm.create_model("test_efficientnet_gn").eval()
    known = vectors.make(model, (3, 64, 64))
    blob = save({k: v.contiguous() for k, v in model.state_dict().items()})
    extra = {"features": torch.zeros(1), "pre_logits": torch.zeros(1)}
    files = {WEIGHTS: blob, vectors.TIMMS_FILE: save({**known, **extra})}
    hub.repo("timm/test_efficientnet_gn.r160_in1k", files)
    run("download", "tiny_efficientnet_gn", "--no-progress")
    found = json.loads(run("verify", "tiny_efficientnet_gn", "--replay", "--json"))
    assert found["vectors_error"] < 1e-4
    hub.repos["timm/test_efficientnet_gn.r160_in1k"].at("main").files.pop(vectors.TIMMS_FILE)
    monkeypatch.setenv("HF_HUB_CACHE", str(Path(found["path"]).parents[4] / "fresh"))
    run("download", "tiny_efficientnet_gn", "--no-progress")
    with pytest.raises(HubError, match="does not exist"):
        CliRunner().invoke(app, ["verify", "tiny_efficientnet_gn", "--replay"], catch_exceptions=False)


def test_bundled_weights_have_no_vectors_to_replay():
    with pytest.raises(WeightsError, match="come with published repositories"):
        CliRunner().invoke(app, ["verify", NAME, "--replay"], catch_exceptions=False)


# --------------------------------------------------------------------------- what publishing shows and does


def test_dry_run_shows_card_files_and_collections_and_sends_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    said = run("publish", NAME, "--to", REPO, "--folder", str(tmp_path / "bundle"))
    assert "collection 'Group Normalization' of zoo-tests: paper 1803.08494, model zoo-tests/digits" in said
    assert "dry run: nothing was sent" in said
    assert "license: apache-2.0" in said
    assert hub.log == []
    known = load((tmp_path / "bundle" / vectors.FILE).read_bytes())
    assert vectors.replay(zoo.create(NAME, pretrained=True), known) < 1e-5
    assert "collection '" not in run("publish", NAME, "--to", REPO, "--no-collections")


def test_publishing_twice_leaves_one_collection_with_each_thing_once(hub, published):
    published()
    published()
    (collection,) = hub.collections.values()
    assert collection["title"] == "Group Normalization"
    assert [(i["type"], i["id"]) for i in collection["items"]] == [("paper", "1803.08494"), ("model", REPO)]


def test_a_refused_collection_says_so_after_the_weights_are_there(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.fault("403", "POST", "collections")
    with pytest.raises(HubError, match="collection 'Group Normalization' of zoo-tests") as caught:
        CliRunner().invoke(app, ["publish", NAME, "--to", REPO, "--no-dry-run"], catch_exceptions=False)
    assert "hf_secret" not in str(caught.value)
    assert WEIGHTS in hub.repos[REPO].at("main").files
