"""What the lock says of timm's tags: counted by a way of its own here, complete, with its source, and cheap to keep."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.errors import WeightsError
from zoo.factory import facts
from zoo.factory.lock import compute
from zoo.registry.files import data_root
from zoo.registry.lookup import registry

COMMIT = "0" * 40


def by_hand(tag: str) -> tuple[int, int]:
    """Parameters, and MACs of convolutions and linear layers from the shapes that pass through them."""
    with torch.device("meta"):
        model = timm.create_model(tag).eval().requires_grad_(False)
    total = 0

    def add(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            total += out.numel() * kernel * module.in_channels // module.groups
        else:
            total += out.numel() * module.in_features

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    model(torch.empty(1, *model.pretrained_cfg["input_size"], device="meta"))
    return sum(p.numel() for p in model.parameters()), total


@pytest.mark.parametrize(
    "tag",
    ["resnet50.a1_in1k", "test_efficientnet.r160_in1k", "resnext50_32x4d.tv_in1k", "mobilenetv3_small_100.lamb_in1k"],
)
def test_counts_equal_a_count_by_hand(tag):
    record = registry().lock["timm"][tag]
    assert (record["params"], record["macs"]) == by_hand(tag)
    assert facts.count(tag) == {"params": record["params"], "macs": record["macs"]}


def test_attention_is_counted():
    """A ViT: what convolutions and linear layers leave out is two products of tokens x tokens x width in each block."""
    tag = "deit_tiny_patch16_224.fb_in1k"
    record = registry().lock["timm"][tag]
    params, linear = by_hand(tag)
    assert record["params"] == params
    assert record["macs"] - linear == 12 * 2 * 197 * 197 * 192


def test_a_parameter_as_input_of_a_module_does_not_stop_the_counter():
    assert (
        facts.count("cait_xxs24_224.fb_dist_in1k")["macs"] > 2e9
    )  # the class token goes into the first block by itself


def test_every_tag_has_its_facts():
    lock = registry().lock
    uncounted = {t: r["uncounted"] for t, r in lock["timm"].items() if "uncounted" in r}
    assert len(uncounted) <= 0.02 * len(lock["timm"]), uncounted
    for tag, record in lock["timm"].items():
        assert record["params"] > 1e5, tag
        assert tag in uncounted or record["macs"] > 1e6, tag
        if "top1" in record:
            assert 30 < record["top1"] < 95, tag
            assert record["num_classes"] == 1000, tag
            assert 96 <= record["top1_size"] <= 1024, tag
    known = [r for r in lock["timm"].values() if "top1" in r]
    assert len(known) > 1000


def test_the_source_of_the_figures_stands_beside_them():
    found = registry().lock["facts"]
    assert re.fullmatch(
        r"https://github\.com/huggingface/pytorch-image-models/blob/[0-9a-f]{40}/results/\S+\.csv",
        found["top1"]["source"],
    )
    assert re.fullmatch(r"[0-9a-f]{64}", found["top1"]["sha256"])
    assert "flop_counter" in found["counts"]["what"]


def test_published_figures_are_those_of_the_table():
    """Values of resnet50_gn and a BiT, as timm's table has them."""
    record = registry().lock["timm"]  # the table also has 81.216 at 288
    assert (record["resnet50_gn.a1h_in1k"]["top1"], record["resnet50_gn.a1h_in1k"]["top1_size"]) == (80.074, 224)
    assert record["resnetv2_50x1_bit.goog_in21k_ft_in1k"]["top1"] == 80.386
    assert "top1" not in record["resnetv2_50x1_bit.goog_in21k"]  # no ImageNet-1k head: unknown


def test_the_lock_is_small_and_in_its_form():
    path = data_root() / "registry.lock.json"
    assert path.stat().st_size < 1_500_000
    from zoo.cli.maintain import dump_lock

    text = path.read_text(encoding="utf-8")
    assert dump_lock(json.loads(text)) == text


# --------------------------------------------------------------------------- counting only what changed


def test_known_counts_are_kept_and_each_graph_is_built_once(monkeypatch):
    built = []

    def count(tag: str) -> dict[str, int]:
        built.append(tag)
        return {"params": len(built), "macs": 7}

    monkeypatch.setattr(facts, "count", count)
    known = {"resnet50.a1_in1k": {"params": 1, "macs": 2}}
    tags = ["resnet50.a1_in1k", "resnet50.tv_in1k", "resnet18.a1_in1k", "resnet18.tv_in1k"]
    found = facts.count_all(tags, known)
    assert built == ["resnet18.a1_in1k"]  # resnet50.tv_in1k is the graph of a tag that is known
    assert found["resnet50.tv_in1k"] == known["resnet50.a1_in1k"]
    assert found["resnet18.tv_in1k"] == {"params": 1, "macs": 7}
    assert facts.count_all(tags, found) == found
    assert len(built) == 1


def test_tags_of_another_size_or_head_are_other_graphs():
    tags = [
        "resnetv2_50x1_bit.goog_in21k",
        "resnetv2_50x1_bit.goog_in21k_ft_in1k",
        "resnetv2_50x1_bit.goog_distilled_in1k",
    ]
    assert len({facts.graph_of(t) for t in tags}) == 3
    with pytest.raises(WeightsError, match="does not know"):
        facts.graph_of("resnet50.nobody")


@pytest.mark.slow
def test_the_lock_is_what_zoo_lock_writes(monkeypatch):
    """Computed again from itself: nothing differs, and no tag is built."""

    def count(tag: str) -> dict[str, int]:
        raise AssertionError(f"{tag} was counted again")

    monkeypatch.setattr(facts, "count", count)
    lock = json.loads((data_root() / "registry.lock.json").read_text(encoding="utf-8"))
    assert compute(lock) == lock


# --------------------------------------------------------------------------- timm's table

TABLE = "model,img_size,top1,top1_err,top5\nresnet18.a1_in1k,224,71.504,28.496,90.09\n"


def test_reading_timms_table(tmp_path: Path):
    path = tmp_path / "results-imagenet.csv"
    path.write_text(TABLE + "resnet18.a1_in1k,288,73.164,26.836,91.05\n")
    found, source = facts.read_top1(path, COMMIT)
    assert found == {"resnet18.a1_in1k": {224: 71.504, 288: 73.164}}
    assert COMMIT in source["source"]
    assert facts.top1_of(found["resnet18.a1_in1k"], 224) == {"top1": 71.504, "top1_size": 224}
    assert facts.top1_of(found["resnet18.a1_in1k"], 160) == {"top1": 73.164, "top1_size": 288}
    assert facts.top1_of({}, 224) == {}


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "is not timm's"), ("name,acc\nx,1\n", "is not timm's"), (TABLE + "x,224,101,0,0\n", "has top1 101"),
     (TABLE + "x,224,nan,0,0\n", "has top1 nan"), (TABLE + "x,big,70,0,0\n", "no figure"),
     (TABLE + "resnet18.a1_in1k,224,70,30,90\n", "another figure for that size")],
)  # fmt: skip
def test_tables_that_are_none(tmp_path: Path, text, match):
    path = tmp_path / "results-imagenet.csv"
    path.write_text(text)
    with pytest.raises(WeightsError, match=match):
        facts.read_top1(path, COMMIT)


def test_the_table_must_come_from_a_commit(tmp_path: Path):
    (tmp_path / "t.csv").write_text(TABLE)
    with pytest.raises(WeightsError, match="40 lower-case hex"):
        facts.read_top1(tmp_path / "t.csv", "main")
