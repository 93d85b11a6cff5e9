"""Bad files: each one clear error with file and line, and nothing half-loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toy import page
from zoo.errors import RegistryError
from zoo.registry import load as load_module
from zoo.registry.load import load
from zoo.registry.yaml_io import parse


def problems(root: Path) -> str:
    with pytest.raises(RegistryError) as caught:
        load(root)
    return str(caught.value)


def edit(root: Path, old: str, new: str, file: str = "registry.yaml") -> None:
    path = root / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_valid(toy: Path) -> None:
    raw = load(toy)
    assert set(raw.papers) == {"group_norm", "layer_norm", "steps"}
    assert raw.papers["group_norm"]["category"] == "normalization"
    assert set(raw.models) == {"gn_resnet50"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: norm,", "kind: nrom,", ["registry.yaml:2", "methods.group_norm.kind", "received 'nrom'", "Did you mean 'norm'", "Allowed: norm"]),
        ("defaults:", "defualts:", ["registry.yaml:2", "unknown key 'defualts'", "Did you mean 'defaults'"]),
        ("  soft_step:", "  hard_step:", ["registry.yaml:9", "duplicate key 'hard_step'"]),
        ("timm.layers:GroupNorm", "os:system", ["registry.yaml:2", "may only point into zoo", "received 'os:system'"]),
        ("timm.layers:GroupNorm", "torch.nn:_reduction", ["private name"]),
        ("timm.layers:GroupNorm", "torch.nn.GroupNorm", ["package.module:Attribute"]),
        ("paper: group_norm,", "paper: gruop_norm,", ["registry.yaml:2", "unknown paper 'gruop_norm'", "Did you mean 'group_norm'"]),
        ("swaps: {norm: group_norm}", "swaps: {norm: soft_step}", ["registry.yaml:13", "is of kind activation, norm takes kind norm"]),
        ("swaps: {norm: group_norm}", "swaps: {norm: grup_norm}", ["unknown method 'grup_norm'", "Did you mean 'group_norm'"]),
        ("aliases: [plus step]", "aliases: [Hard-Step]", ["'hard_step' is taken by methods.soft_step ('Hard-Step')", "case and separators do not count"]),
        ("aliases: [resnet50-groupnorm]", "aliases: [gn]", ["taken by models.gn_resnet50"]),
        ("  gn_resnet50:", "  GnResnet50:", ["registry.yaml:11", "which does not have the form"]),
        ("paper: steps, kind: activation, target: \"torch.nn:Hardtanh\"", "kind: activation, target: \"torch.nn:Hardtanh\"", ["methods.hard_step.paper", "required, but not given"]),
        ("timm: [resnet50_gn.a1h_in1k]", "timm: [resnet50_gn]", ["checkpoints.timm.0", "resnet50_gn"]),
        ("timm: [resnet50_gn.a1h_in1k]", "bundled: [{tag: x, file: ../x.safetensors, licence: mit, trained_on: y}]", ["a file name is relative"]),
        ("timm: [resnet50_gn.a1h_in1k]", "bundled: [{tag: x, file: x.pth, licence: mit, trained_on: y}]", [".safetensors"]),
        ("timm: [resnet50_gn.a1h_in1k]", "bundled: [{tag: x, file: x.safetensors, licence: mit, trained_on: y}]", ["states its sha256 and size"]),
        ("timm: [resnet50_gn.a1h_in1k]", "hub: [{tag: x, repo: a/b, file: x.safetensors, licence: mit, trained_on: y, commit: main}]", ["commit", "'main'"]),
        ("    aliases: [resnet50-groupnorm]", "    aliases: &a [resnet50-groupnorm]", ["registry.yaml:14", "anchors and aliases"]),
    ],
)  # fmt: skip
def test_bad_registry(toy: Path, old: str, new: str, expected: list[str]) -> None:
    edit(toy, old, new)
    text = problems(toy)
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("---\ntitle", "title", ["group_norm.md:1", "begins with front matter"]),
        ("title: Group", "tilte: Group", ["unknown key 'tilte'", "Did you mean 'title'"]),
        ("year: 2018", "year: 2018\nyear: 2019", ["group_norm.md:6", "duplicate key 'year'"]),
        ('arxiv: "1803.08494"', "arxiv: 1803.08494", ["group_norm.md:6", "put it in quotes"]),
        ('arxiv: "1803.08494"', "", ["one of arxiv, doi, url"]),
        ("## Method", "## Methods", ["no section '## Method'"]),
        ("title: Group", "id: gn\ntitle: Group", ["'id' comes from the path"]),
        ("venue: ECCV", "venue: arXiv", ["published_as: preprint"]),
        ("aliases: [gn]", "relations: {special_case: {layer_norm: x}}", ["received 'special_case'", "Did you mean 'special_case_of'"]),
        ("aliases: [gn]", "relations: {generalises: {layr_norm: x}}", ["unknown paper 'layr_norm'", "Did you mean 'layer_norm'"]),
        ("aliases: [gn]", "claims: [{id: a, statement: s, check: 'os.path:join'}]", ["a check is written 'zoo.claims."]),
        ("aliases: [gn]", "claims: [{id: a, statement: s}, {id: a, statement: t}]", ["claim ids of one paper must differ"]),
    ],
)  # fmt: skip
def test_bad_page(toy: Path, old: str, new: str, expected: list[str]) -> None:
    edit(toy, old, new, "catalog/normalization/group_norm.md")
    text = problems(toy)
    for part in expected:
        assert part in text


def test_paper_without_method(toy: Path) -> None:
    page(toy, "losses", "lonely", title="A Lonely Loss")
    assert "catalog/losses/lonely.md" in problems(toy)
    assert "no method in the registry has paper: lonely" in problems(toy)


def test_unknown_category(toy: Path) -> None:
    page(toy, "normalisation", "british", title="A British Norm")
    text = problems(toy)
    assert "received 'normalisation'" in text
    assert "Did you mean 'normalization'" in text


def test_same_paper_twice(toy: Path) -> None:
    page(toy, "pooling", "group_norm", title="Group Normalization Again")
    assert "an id is used once" in problems(toy)


def test_every_problem_is_listed(toy: Path) -> None:
    edit(toy, "kind: norm,", "kind: nrom,")
    edit(toy, "year: 2020", "year: soon", "catalog/activations/steps.md")
    text = problems(toy)
    assert "2 problems found" in text
    assert "steps.md:5" in text


def test_too_large(toy: Path) -> None:
    with (toy / "registry.yaml").open("a") as file:
        file.write("# " + "x" * (50 * 2**20))
    assert "50 MB is more than the 16 MB" in problems(toy)


@pytest.mark.parametrize(
    "text", ["a: [" * 5000, "a: \x00", "a: !!python/object:os.system {}", "{a: b", "? [1, 2]\n: x", "a: 2020-13-45"]
)
def test_hostile_yaml(text: str) -> None:
    with pytest.raises(RegistryError, match=r"x\.yaml:\d+"):
        parse(text, "x.yaml")


def test_alias_bomb() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    with pytest.raises(RegistryError, match="anchors and aliases"):
        parse(bomb, "x.yaml")


def test_text_with_stars_and_ampersands_is_no_alias() -> None:
    assert parse("a: this & that\nb: 'x *y*'\nc: a*b", "x.yaml") == {"a": "this & that", "b": "x *y*", "c": "a*b"}


def test_not_utf8(toy: Path) -> None:
    (toy / "registry.yaml").write_bytes(b"methods: {\xff}")
    assert "not UTF-8" in problems(toy)


# --------------------------------------------------------------------------- the cache of valid records


def test_cache_serves_equal_records_and_notices_changes(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(toy)
    read: list[str] = []
    original = load_module._read_page
    monkeypatch.setattr(load_module, "_read_page", lambda path, shown: read.append(shown) or original(path, shown))
    assert load(toy) == first
    assert read == []
    edit(toy, "year: 2020", "year: 2021", "catalog/activations/steps.md")
    assert load(toy).papers["steps"]["year"] == 2021
    assert read == ["catalog/activations/steps.md"]


def test_cache_does_not_hide_a_removed_page(toy: Path) -> None:
    load(toy)
    (toy / "catalog/normalization/layer_norm.md").unlink()
    assert "unknown paper 'layer_norm'" in problems(toy)


def test_invalid_is_never_cached(toy: Path) -> None:
    edit(toy, "kind: norm,", "kind: nrom,")
    for _ in range(2):
        assert "nrom" in problems(toy)


def test_damaged_or_unwritable_cache_is_no_problem(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(toy)
    for file in (tmp_path / "cache").iterdir():
        file.write_text("{broken")
    assert load(toy) == first
    monkeypatch.setenv("ZOO_CACHE", "/proc/nowhere")
    assert load(toy) == first


def test_cached_equals_validated(toy: Path, tmp_path: Path) -> None:
    load(toy)
    (cache,) = (tmp_path / "cache").iterdir()
    stored = json.loads(cache.read_text())
    assert stored["registry.yaml"]["data"]["methods"] == load(toy, use_cache=False).methods
