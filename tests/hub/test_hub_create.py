"""The whole path by one name: ``zoo.create(name, pretrained=True)`` against a Hub that answers as the real one does."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save

CREATE = """
    import json, sys, torch, zoo
    model = zoo.create(sys.argv[1], pretrained=True, **json.loads(sys.argv[2])).eval()
    report = zoo.load_report(model)
    torch.manual_seed(0)
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 64))
    print(json.dumps({"out": out[0, :5].tolist(), "share": report.share, "new": sorted(report.new), "sha256": report.sha256,
                      "classes": out.shape[1]}))
"""


def put(hub, architecture: str, tag: str) -> tuple[torch.nn.Module, str]:
    """Random weights of a timm model as its Hub repository; returns the model and the commit."""
    torch.manual_seed(1)
    model = timm.create_model(architecture)
    blob = save({k: v.contiguous() for k, v in model.state_dict().items()})
    hub.repo(f"timm/{architecture}.{tag}", {"model.safetensors": blob})
    return model.eval(), hub.repos[f"timm/{architecture}.{tag}"].refs["main"]


def expected(model: torch.nn.Module) -> list[float]:
    torch.manual_seed(0)
    with torch.no_grad():
        return model(torch.randn(1, 3, 64, 64))[0, :5].tolist()


def test_gn_resnet50_takes_timms_checkpoint(hub, client) -> None:
    model, _ = put(hub, "resnet50_gn", "a1h_in1k")
    found = json.loads(client(CREATE, "gn_resnet50", "{}").stdout)
    assert found["share"] == 1.0
    assert found["new"] == []
    assert found["classes"] == 1000
    assert found["out"] == pytest.approx(expected(model), abs=1e-5)
    again = client(CREATE, "gn_resnet50", "{}", HF_HUB_OFFLINE="1")  # cached and trusted on first use: nobody is asked
    assert json.loads(again.stdout) == found


def test_another_number_of_classes_is_declared_new(hub, client) -> None:
    put(hub, "test_efficientnet_gn", "r160_in1k")
    found = json.loads(client(CREATE, "tiny_efficientnet_gn", '{"num_classes": 7}').stdout)
    assert found["new"] == ["classifier.bias", "classifier.weight"]
    assert found["classes"] == 7


def test_a_branch_that_moves_after_first_use_is_refused(hub, client) -> None:
    put(hub, "test_efficientnet_gn", "r160_in1k")
    client(CREATE, "tiny_efficientnet_gn", "{}")
    torch.manual_seed(2)
    moved = save({k: v.contiguous() for k, v in timm.create_model("test_efficientnet_gn").state_dict().items()})
    hub.repo("timm/test_efficientnet_gn.r160_in1k", {"model.safetensors": moved})
    found = client(CREATE, "tiny_efficientnet_gn", "{}", check=False)
    # The pinned commit is cached, so the first bytes still serve; nothing of the moved branch is taken.
    assert found.returncode == 0
    strict = client(CREATE, "tiny_efficientnet_gn", "{}", check=False, ZOO_STRICT_PINS="1")
    assert strict.returncode == 1
    assert "strict pins are demanded" in strict.stderr


def test_wrong_architecture_on_the_hub_is_refused(hub, client) -> None:
    torch.manual_seed(1)
    blob = save({k: v.contiguous() for k, v in timm.create_model("test_resnet").state_dict().items()})
    hub.repo("timm/test_efficientnet_gn.r160_in1k", {"model.safetensors": blob})
    done = client(CREATE, "tiny_efficientnet_gn", "{}", check=False)
    assert done.returncode == 1
    assert "WeightsError" in done.stderr
