"""Registries of others: data from files, code only through an entry point that the user names."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

import zoo
from zoo.errors import RegistryError, UnknownName
from zoo.registry.lookup import Registry

MINE = """papers:
  mine: {category: normalization, title: My Own Study, authors: [Me], venue: arXiv, published_as: preprint, year: 2026, url: https://example.org, summary: s}
models:
  my_resnet18:
    backbone: resnet18
    swaps: {norm: {group_norm: {num_groups: 8}}}
    papers: [mine]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_merge(in_use: Registry, tmp_path: Path) -> None:
    assert sorted(zoo.load_registry(write(tmp_path, MINE))) == ["mine", "my_resnet18"]
    assert zoo.info("my_resnet18").papers[1].title == "My Own Study"
    assert zoo.info("mine").notes == ""
    assert "gn_resnet50" in zoo.list_models()
    assert zoo.search("my own study")[0].paper == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("methods:\n  x: {paper: group_norm, kind: norm, target: 'zoo.x:Y'}\n", "holds data only"),
        ("models:\n  gn_resnet50: {backbone: resnet18, swaps: {norm: group_norm}}\n", "already exists"),
        ("models:\n  other: {backbone: resnet18, swaps: {norm: group_nrm}}\n", "Did you mean 'group_norm'"),
        ("models:\n  Gn-ResNet50: {backbone: resnet18, swaps: {norm: group_norm}}\n", "does not have the form"),
        ("modles: {}\n", "unknown section 'modles'"),
        ("- a\n", "received list"),
    ],
)
def test_refused_whole(in_use: Registry, tmp_path: Path, text: str, expected: str) -> None:
    before = zoo.list_models()
    with pytest.raises(RegistryError, match=expected):
        zoo.load_registry(write(tmp_path, text))
    assert zoo.list_models() == before


def test_missing_file_and_unknown_entry_point(in_use: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        zoo.load_registry(tmp_path / "no.yaml")
    with pytest.raises(UnknownName, match=r"zoo\.registries"):
        zoo.load_registry("nobody")


def test_entry_point_may_bring_code(in_use: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "toypack"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\nREGISTRY = Path(__file__).parent / 'registry.yaml'\n"
    )
    (package / "layers.py").write_text(
        "from torch import nn\n\n\nclass Half(nn.Module):\n    def forward(self, x):\n        return x / 2\n"
    )
    (package / "registry.yaml").write_text(
        "papers:\n  halves: {category: activations, title: Halves, authors: [Me], venue: V, year: 2026, url: https://example.org, summary: s}\n"
        "methods:\n  half: {paper: halves, kind: activation, target: 'toypack.layers:Half'}\n"
    )
    info = tmp_path / "toypack-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toypack\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[zoo.registries]\ntoypack = toypack:REGISTRY\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {e.name for e in metadata.entry_points(group="zoo.registries")} >= {"toypack"}
    assert sorted(zoo.load_registry("toypack")) == ["half", "halves"]
    layer = zoo.create("half")
    assert layer(4.0) == 2.0
    sys.modules.pop("toypack", None)
