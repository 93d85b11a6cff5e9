"""Names, lists, filters, search, citations."""

from __future__ import annotations

import pytest

import zoo
from zoo.errors import AmbiguousName, UnknownName
from zoo.registry.lookup import Registry


@pytest.mark.parametrize(
    "name",
    [
        "group_norm",
        "GroupNorm",
        "group-norm",
        "GN",
        "gn",
        "Group Normalization",
        "1803.08494",
        "arXiv:1803.08494v3",
        "https://arxiv.org/abs/1803.08494",
    ],
)
def test_one_paper_many_names(in_use: Registry, name: str) -> None:
    assert zoo.info(name).paper.id == "group_norm"
    assert zoo.info(name).method is not None


def test_model_names(in_use: Registry) -> None:
    for name in ("gn_resnet50", "gn-resnet50", "GNResNet50", "ResNet50 GroupNorm"):
        assert zoo.info(name).what == "model"
        assert zoo.info(name).papers[0].id == "group_norm"


@pytest.mark.parametrize(
    ("typo", "right"),
    [
        ("GroupNrom", "group_norm"),
        ("grup_norm", "group_norm"),
        ("layernrm", "layer_norm"),
        ("gn_resnet5o", "gn_resnet50"),
    ],
)
def test_nearest_name(in_use: Registry, typo: str, right: str) -> None:
    with pytest.raises(UnknownName, match=f"'{right}'") as caught:
        zoo.info(typo)
    assert caught.value.near[0] == right


def test_ambiguous_title_and_paper(in_use: Registry) -> None:
    with pytest.raises(AmbiguousName, match=r"group_norm.*layer_norm"):
        zoo.info("Normalization")
    with pytest.raises(AmbiguousName, match=r"hard_step.*soft_step"):
        zoo.create(paper="steps")


def test_lists_and_filters(in_use: Registry) -> None:
    assert zoo.list_methods() == ["group_norm", "hard_step", "layer_norm", "soft_step"]
    assert zoo.list_methods("*_norm", exclude="layer*") == ["group_norm"]
    assert zoo.list_methods(kind="norm", year=(2017, None)) == ["group_norm"]
    assert zoo.list_methods(kind=["norm", "activation"], backing="torch") == ["hard_step", "soft_step"]
    assert zoo.list_methods(author="*Lovelace") == zoo.list_methods()
    assert zoo.list_papers(category="activations") == ["steps"]
    assert zoo.list_papers(year=lambda y: y % 2 == 0, venue="eccv") == ["group_norm", "steps"]
    assert zoo.list_models(pretrained=True) == ["gn_resnet50"]
    assert zoo.list_models(licence="unknown") == ["gn_resnet50"]
    assert zoo.list_papers(pretrained=False) == ["layer_norm", "steps"]
    assert zoo.list_papers(status="not run") == zoo.list_papers()


def test_unknown_filter(in_use: Registry) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'category'"):
        zoo.list_methods(categroy="normalization")


def test_search_ranks_names_before_notes(in_use: Registry) -> None:
    assert zoo.search("group normalization")[0].paper == "group_norm"
    assert {h.paper for h in zoo.search("zebras")} == {"group_norm", "layer_norm", "steps"}
    assert "zebras" in zoo.search("zebras")[0].excerpt
    assert zoo.search("lovelace 2016")[0].paper == "layer_norm"
    assert [h.paper for h in zoo.search("emile borel")]
    assert zoo.search("quaternion") == []
    assert zoo.search("  ") == []
    assert zoo.search("gn")[0].paper == "group_norm"


def test_cite(in_use: Registry) -> None:
    entry = zoo.cite("gn_resnet50")
    assert entry.startswith("@inproceedings{lovelace2018group,")
    assert "booktitle     = {ECCV}" in entry
    assert "Ada Lovelace and Émile Borel" in entry
    assert zoo.cite("layer_norm").startswith("@misc{lovelace2016layer,")
    assert "booktitle" not in zoo.cite("layer_norm")
    assert entry.count("{") == entry.count("}")


def test_cite_escapes(in_use: Registry) -> None:
    from zoo.registry.cite import bibtex

    entry = bibtex(
        {
            "id": "x",
            "title": "A & B: 100% of $x_1$ with BatchNorm",
            "authors": ["O. O'Neil"],
            "venue": "J",
            "published_as": "journal",
            "year": 2000,
        }
    )
    assert r"A \& {B:} 100\%" in entry
    assert "{BatchNorm}" in entry
    assert entry.startswith("@article{oneil2000b,")


def test_typed_record_is_frozen(in_use: Registry) -> None:
    with pytest.raises(ValueError, match="frozen"):
        zoo.info("gn").paper.year = 1999


def test_empty_name(in_use: Registry) -> None:
    with pytest.raises(UnknownName, match="non-empty"):
        zoo.info("")
