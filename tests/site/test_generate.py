"""The generator: every record has its page, nothing stale, the same bytes twice, nothing heavy imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from zoo.site.context import Site, source_signature, to
from zoo.site.generate import generate
from zoo.site.pages import pages


def test_every_paper_has_exactly_one_page(site: Site, sources: Path) -> None:
    for paper in site.papers:
        found = list(sources.rglob(f"{paper}.md"))
        own = [p for p in found if p.parent.name == site.reg.raw.papers[paper]["category"]]
        assert len(own) == 1
    for model in site.models:
        assert (sources / "models" / f"{model}.md").is_file()
    for category in site.categories:
        assert (sources / category / "index.md").is_file()


def test_twice_the_same_and_the_second_writes_nothing(tmp_path: Path) -> None:
    first = generate(tmp_path / "docs")
    assert first.written
    assert first.files == len(first.written)
    second = generate(tmp_path / "docs")
    assert (second.written, second.removed) == ([], [])
    other = generate(tmp_path / "other" / "docs")
    for path in other.written:
        assert (tmp_path / "docs" / path).read_bytes() == (tmp_path / "other" / "docs" / path).read_bytes()


def test_stale_pages_go(tmp_path: Path) -> None:
    out = tmp_path / "docs"
    generate(out)
    (out / "normalization" / "gone.md").write_text("# gone")
    (out / "old").mkdir()
    (out / "old" / "page.md").write_text("# old")
    report = generate(out)
    assert sorted(report.removed) == ["normalization/gone.md", "old/page.md"]
    assert not (out / "old").exists()


def test_no_torch_and_no_mkdocs(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom zoo.site.generate import generate\n"
        f"generate(Path({str(tmp_path / 'docs')!r}))\n"
        "heavy = {'torch', 'timm', 'torchvision', 'mkdocs', 'material', 'markdown', 'griffe'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_every_page_is_in_the_navigation(site: Site, sources: Path) -> None:
    config = (sources.parent / "mkdocs.gen.yml").read_text()
    for path in sources.rglob("*.md"):
        assert path.relative_to(sources).as_posix() in config


def test_a_page_has_the_sections_in_their_order(site: Site) -> None:
    texts = pages(site)
    order = [
        "Use it", "Method", "Figures", "When to use it", "Where re-implementations go wrong", "Evidence", "Numbers from the paper",
        "Checkpoints", "API", "Cite", "Related",
    ]  # fmt: skip
    for paper in site.papers:
        heads = [
            line[3:].removesuffix(" {data-search-exclude}")
            for line in texts[site.path_of(paper)].splitlines()
            if line.startswith("## ")
        ]
        standard = [h for h in heads if h in order]
        assert standard == sorted(standard, key=order.index), paper
        assert {"Use it", "Evidence", "Checkpoints", "API", "Cite"} <= set(heads), paper


def test_dumps_agree_with_the_registry(site: Site, sources: Path) -> None:
    data = json.loads((sources / "data" / "registry.json").read_text())
    assert set(data["papers"]) == set(site.reg.raw.papers)
    assert set(data["methods"]) == set(site.reg.raw.methods)
    arxiv = json.loads((sources / "data" / "arxiv.json").read_text())
    for number, page in arxiv.items():
        assert (sources / (page.rstrip("/") + ".md")).is_file(), number
    bib = (sources / "data" / "papers.bib").read_text()
    assert bib.count("\n@") + bib.startswith("@") == len(site.papers)
    assert bib.count("{") == bib.count("}")
    rows = (sources / "data" / "papers.csv").read_text().splitlines()
    assert len(rows) == len(site.papers) + 1
    assert all(p in (sources / "llms.txt").read_text() for p in site.papers)


def test_relative_links() -> None:
    assert to("a/b.md", "a/c.md") == "c.md"
    assert to("a/b.md", "index.md") == "../index.md"
    assert to("index.md", "a/b.md") == "a/b.md"


def test_signatures_are_read_from_sources() -> None:
    found = source_signature("zoo.normalization.positional_norm:PositionalNorm")
    assert found == {"num_channels": "required", "eps": "1e-05", "unbiased": "True", "return_moments": "False"}
    assert source_signature("zoo.normalization.positional_norm:Nothing") is None


def test_unmeasured_says_so(site: Site) -> None:
    texts = pages(site)
    for paper in site.papers:
        run = set(site.evidence(paper).claims)
        for claim in site.paper(paper).claims:
            if claim.id not in run:
                assert "not run" in texts[site.path_of(paper)]
