"""What the pages advise, and the committed data they draw: held against registry and evidence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from zoo.registry.schema import Evidence
from zoo.site import category, densities
from zoo.site.compare import groups
from zoo.site.context import Site
from zoo.site.pages import pages
from zoo.site.text import brief, spread

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = json.loads((ROOT / "docs" / "data" / "decisions.json").read_text(encoding="utf-8"))
LINES = [(c, line) for c, entry in DECISIONS.items() for line in entry["lines"]]


def status_of(site: Site, name: str) -> str:
    paper, _, claim = name.partition(".")
    assert claim in {c.id for c in site.paper(paper).claims}, f"no such claim: {name}"
    record = site.evidence(paper).claims.get(claim)
    return record.status if record else "not run"


@pytest.mark.parametrize(("where", "line"), LINES, ids=lambda v: v if isinstance(v, str) else v["when"][:30])
def test_a_line_rests_on_something(site: Site, where: str, line: dict) -> None:
    assert where in site.categories
    assert ("take" in line) != ("avoid" in line)
    for name in line.get("take", line.get("avoid")):
        assert name in site.reg.raw.methods
    assert ("claim" in line) != ("source" in line)
    if "claim" in line:
        refuted = status_of(site, line["claim"]) == "refuted"
        assert not (refuted and "take" in line), "advice must not rest on what was refuted here"
        assert refuted or "avoid" not in line, "a warning rests on what was refuted here"


@pytest.mark.parametrize("where", list(DECISIONS))
def test_the_page_says_measured_only_where_it_was(site: Site, where: str) -> None:
    shown = category.decisions(site, where)
    rows = [row for row in shown.split("\n") if row.startswith("| ") and " --- " not in row][1:]
    assert len(rows) == len(DECISIONS[where]["lines"])
    for row, line in zip(rows, DECISIONS[where]["lines"], strict=True):
        status = status_of(site, line["claim"]) if "claim" in line else "not run"
        assert ("[measured](" in row) == (status in ("reproduced", "partly"))
        if status == "not run":
            assert "the paper's word" in row


def test_wording_follows_the_evidence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with the evidence gone: nothing is called measured."""
    bare = Site(site.reg, site.docs, site.bench)
    monkeypatch.setattr(Site, "evidence", lambda self, paper: Evidence(paper=paper))
    shown = category.decisions(bare, "normalization")
    assert "[measured](" not in shown
    assert "the paper's word" in shown


def test_norms_stand_in_the_table_with_their_facts(site: Site) -> None:
    shown = category.norms(site, "normalization/index.md")
    facts = json.loads((ROOT / "docs" / "data" / "norm_table.json").read_text(encoding="utf-8"))["norms"]
    for name, fact in facts.items():
        row = next(r for r in shown.split("\n") if re.match(rf"\| .*`{name}`", r))
        assert (" yes " in row.split("|")[4]) == fact["train_equals_eval"]
        assert (" yes " in row.split("|")[9]) == fact["folds"]


def test_densities_are_up_to_date() -> None:
    found = json.loads((ROOT / "docs" / "data" / "densities.json").read_text(encoding="utf-8"))["methods"]
    assert {n: e["key"] for n, e in found.items()} == {n: densities.key_of(n) for n in densities.FLOWS}, (
        "run python -m zoo.site.densities"
    )


def test_target_density_is_the_energy() -> None:
    """The two modes of U1 lie left and right of the middle, at distance 2."""
    density = densities.target("u1")
    middle, step = densities.POINTS // 2, densities.POINTS / (2 * densities.BOUND)
    assert density[middle, int(middle + 2 * step)] > 0.9 * density.max()
    assert density[middle, int(middle - 2 * step)] > 0.9 * density.max()
    assert density[middle, middle] < 0.01 * density.max()


def test_compare_pages_hold_each_compared_pair(site: Site) -> None:
    found = groups(site)
    assert len(set(found)) == len(found)
    for edge in site.edges:
        if edge.relation == "compared_with":
            assert any({edge.source, edge.target} <= set(group) for group in found), edge
    assert ("autoencoder", "vae", "gan") in found
    page = pages(site)["compare/autoencoder-vs-vae-vs-gan.md"]
    assert "Autoencoder, VAE and GAN" in page
    extra = json.loads((ROOT / "docs" / "data" / "compare.json").read_text(encoding="utf-8"))
    for name, entry in extra.items():
        group = tuple(name.split("-vs-"))
        assert group in found
        for fact, values in entry["facts"].items():
            assert set(values) == set(group), fact


def test_numbers_are_short() -> None:
    assert brief(0.30000001) == "0.3"
    assert brief(1437.0) == "1437"
    assert brief(1.19e-7) == "1.2e-7"
    assert brief(25557032.0) == "2.6e7"
    assert brief(12345.678) == "12346"
    assert spread(96.66666, 0.92376) == "96.67 ± 0.92"
    assert spread(18.2, 2.3065) == "18.2 ± 2.3"
    assert spread(85.0, 23.7) == "85 ± 24"
    assert spread(3.0, 0.0) == "3 ± 0"
