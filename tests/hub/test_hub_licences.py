"""Licences: what lists can be narrowed to, what is said before weights are used, and what is said where there are none."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from typer.testing import CliRunner

import zoo
from zoo.cli.app import app
from zoo.errors import WeightsError
from zoo.registry.licences import CLASSES, licence_class
from zoo.registry.lookup import registry

RESTRICTED, FREE = "convnextv2_atto", "test_resnet"


def run(*argv: str) -> str:
    done = CliRunner().invoke(app, list(argv))
    assert done.exit_code == 0, done.output
    return done.output


def test_every_checkpoint_is_of_exactly_one_class():
    by_class = {c: set(zoo.list_checkpoints(licence=c)) for c in CLASSES}
    everything = zoo.list_checkpoints()
    assert sum(map(len, by_class.values())) == len(everything) == len(set(everything))
    assert len(by_class["permissive"]) > 800
    assert "resnet50.a1_in1k" in by_class["permissive"]
    assert "resnet18.fb_swsl_ig1b_ft_in1k" in by_class["non-commercial"]
    assert "fastvit_mci0.apple_mclip" in by_class["non-commercial"]
    assert "mobilevitv2_050.cvnets_in1k" in by_class["other"]
    for record in registry().checkpoints.values():
        assert record["licence"]


def test_the_filter_of_the_command_line_is_that_of_python():
    shown = json.loads(
        run("list", "--what", "checkpoints", "--license", "permissive", "--method", "group_norm", "--json")
    )
    assert [r["checkpoint"] for r in shown] == zoo.list_checkpoints(licence="permissive", method="group_norm")
    assert {licence_class(r["licence"]) for r in shown} == {"permissive"}
    unfiltered = zoo.list_checkpoints(method="group_norm")
    assert {"gn_resnet8_digits.digits", "resnet50_gn.a1h_in1k"} <= {r["checkpoint"] for r in shown} < set(unfiltered)


def test_filters_by_figures():
    found = zoo.list_checkpoints(method="batch_norm", licence="permissive", top1=(80, None), params=(None, 10e6))
    assert found
    for identity in found:
        record = registry().checkpoints[identity]
        assert record["top1"] >= 80
        assert record["params"] <= 10e6


@pytest.mark.parametrize("method", ["sce", "meprop"])
def test_methods_without_known_weights_say_so(method):
    assert zoo.list_checkpoints(method=method) == []
    assert "weights: none known" in run("show", method)
    assert method not in zoo.list_methods(pretrained=True)


def test_asking_for_weights_that_nobody_has():
    entry = zoo.info("gn_resnet8_digits").model
    bare = entry.model_copy(update={"checkpoints": type(entry.checkpoints)()})
    from zoo.factory.pretrained import choose

    with pytest.raises(WeightsError, match="no known pretrained weights"):
        choose(bare.id, bare)


def test_a_tag_that_the_installed_timm_does_not_know():
    from zoo.factory.pretrained import choose
    from zoo.registry.schema import Model

    entry = Model.model_validate(
        {
            "id": "later",
            "backbone": "resnet50",
            "papers": ["group_norm"],
            "checkpoints": {"timm": ["resnet50.of_tomorrow"]},
        }
    )
    with pytest.raises(WeightsError, match=r"knows no weights 'resnet50\.of_tomorrow'"):
        choose("later", entry)


def test_shown_with_the_method():
    line = next(x for x in run("show", "lamb").splitlines() if "weights:" in x)
    known = zoo.list_checkpoints(method="lamb")
    assert f"weights: {len(known)} (" in line


def put(hub, architecture: str) -> None:
    torch.manual_seed(0)
    cfg = timm.models.get_pretrained_cfg(architecture)
    model = timm.create_model(architecture)
    blob = save({k: v.contiguous() for k, v in model.state_dict().items()})
    hub.repo(f"timm/{architecture}.{cfg.tag}", {"model.safetensors": blob})


@pytest.mark.parametrize("how", ["create", "download"])
def test_non_commercial_weights_are_said_to_be_so_at_the_callers_line(hub, how):
    put(hub, RESTRICTED)
    with pytest.warns(UserWarning, match=r"cc-by-nc-4\.0, for non-commercial use only") as caught:
        getattr(zoo, how)(RESTRICTED, **({"pretrained": True} if how == "create" else {}))
    said = [w for w in caught if "non-commercial" in str(w.message)]
    assert len(said) == 1
    assert Path(said[0].filename) == Path(__file__)


def test_permissive_weights_bring_no_warning(hub):
    put(hub, FREE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.download(FREE)
        zoo.create(FREE, pretrained=True)


def test_the_command_line_passes_the_warning_on(hub, client):
    put(hub, RESTRICTED)
    done = client("from zoo.cli.app import app; app(['download', 'convnextv2_atto', '--no-progress'])", check=False)
    assert done.returncode == 0, done.stderr
    assert "for non-commercial use only" in done.stderr
    assert done.stdout.strip().endswith("model.safetensors")
