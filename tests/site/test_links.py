"""The link checker notices what is broken, and the strict build has nothing for it to notice."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import yaml

from zoo.site.generate import generate
from zoo.site.links import check, facts


def test_finds_each_kind_of_fault(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text(
        '<h1 id="top">x</h1><a href="../b/">gone</a><a href="#no">no</a><a href="#top">ok</a>'
    )
    (tmp_path / "index.html").write_text(
        '<a href="a/">ok</a><a href="a/#nothing">bad</a><script src="https://cdn.example/x.js"></script><img src="gone.png">'
        '<a href="https://example.org/">may leave</a><link rel="stylesheet" href="//fonts.example/x.css">'
    )
    problems = check(tmp_path)
    for part in ("../b/", "#no,", "a/#nothing", "cdn.example", "gone.png", "fonts.example"):
        assert any(part in p for p in problems), (part, problems)
    assert len(problems) == 6


class Slow(HTMLParser):
    """The same facts by the standard library's parser."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in {"src", "srcset", "data", "poster"} or (
                name == "href" and tag == "link" and ("rel", "canonical") not in attrs
            ):
                self.loaded.append(value)


def test_reads_what_a_parser_reads(built: Path) -> None:
    hard = [
        '<a title="x > y" href=plain.html>1 < 2</a><A HREF=\'a&amp;b\' ID="q">x</A><!-- <a href="no"> --><img src="i.png"/>',
        '<script src="s.js">var t = "<a href=\\"no\\">";</script><style>a > b {}</style><a name="n">y</a><a href>z</a>',
        '<link rel="canonical" href="https://x.example/"><link href="f.css" rel=stylesheet><p data-src="no" xid="no">',
        '<p class="a"><b class="b" id=c></b><a class="d" title="&lt;" href="e" aria-label="f">1</a><a title="g" href="h&amp;i">2</a>',
        '<a href="" class="j">3</a><i class="k<l" id="m">4</i><div\nclass="n"\nid="o"><a class="p">5</a><a\nhref="q">6</a></div>',
    ]
    pages = [p.read_text(encoding="utf-8") for p in sorted(built.rglob("*.html"))]
    for html in [*hard, *pages]:
        slow = Slow()
        slow.feed(html)
        slow.close()
        found = facts(html)
        assert (found.ids, found.links, found.loaded) == (slow.ids, slow.links, slow.loaded), html[:200]


def test_strict_build(built: Path, sources: Path) -> None:
    assert check(built) == []
    for path in sources.rglob("*.md"):
        relative = path.relative_to(sources).with_suffix("")
        page = built / relative.parent / "index.html" if relative.name == "index" else built / relative / "index.html"
        assert page.is_file(), path


def test_api_documentation_is_there(built: Path) -> None:
    text = (built / "normalization" / "positional_norm" / "index.html").read_text()
    assert "zoo.normalization.positional_norm.PositionalNorm" in text
    assert ".. math::" not in text
    assert ":class:" not in text


def strict(out: Path) -> subprocess.CompletedProcess[str]:
    config = out.parent / "mkdocs.gen.yml"
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def tiny(tmp_path: Path, text: str) -> Path:
    """The site's configuration over one page, so that a negative costs a second."""
    out = tmp_path / "docs"
    report = generate(out)
    config = yaml.safe_load(report.config.read_text())
    small = tmp_path / "small"
    (small / "docs").mkdir(parents=True)
    for name in ("assets",):
        (out / name).rename(small / "docs" / name)
    (small / "docs" / "index.md").write_text("# One\n\n" + text)
    config |= {"docs_dir": str(small / "docs"), "site_dir": str(small / "site"), "nav": [{"One": "index.md"}]}
    (small / "mkdocs.gen.yml").write_text(yaml.safe_dump(config))
    return small / "docs"


def test_a_sound_page_builds(tmp_path: Path) -> None:
    result = strict(tiny(tmp_path, "Text, $x^2$ and\n\n::: zoo.normalization.positional_norm.PositionalNorm\n"))
    assert result.returncode == 0, result.stderr


def test_a_broken_link_fails(tmp_path: Path) -> None:
    result = strict(tiny(tmp_path, "[gone](gone.md)\n"))
    assert result.returncode != 0
    assert "gone.md" in result.stderr


def test_a_broken_anchor_fails(tmp_path: Path) -> None:
    assert strict(tiny(tmp_path, "[gone](#nothing)\n")).returncode != 0


def test_a_wrong_api_target_fails(tmp_path: Path) -> None:
    result = strict(tiny(tmp_path, "::: zoo.normalization.positional_norm.Nothing\n"))
    assert result.returncode != 0
    assert "Nothing" in result.stderr
