"""The hook that saves time changes nothing, and a fault in a worker is a fault of the build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zoo.site.generate import generate
from zoo.site.shortcuts import signature
from zoo.site.words import lean, sections

PAGES = (
    "index.md", "catalog.md", "normalization/index.md", "normalization/positional_norm.md", "normalization/group_norm.md", "optimizers/lans.md",
    "noisy_labels/elr.md", "compare/lars-vs-lamb-vs-lans.md",
)  # fmt: skip
#: Sections with and without an index, one in another, a page beside its section, one that is there twice, addresses elsewhere.
NAV = [
    {"Home": PAGES[0]},
    {
        "Catalog": [
            PAGES[1],
            {"Normalization": list(PAGES[2:5])},
            {"Optimizers": [{"lans": PAGES[5]}, {"Else": "https://example.org/"}]},
        ]
    },
    {"More": [PAGES[6], {"lans again": PAGES[5]}, {"Top": "../top/"}]},
    {"Compare": PAGES[7]},
]


def build(folder: Path, config: dict, hooks: bool, processes: int) -> tuple[int, str, dict[str, bytes]]:
    """Exit status, messages and files of a build of few pages."""
    name = f"site-{hooks}-{processes}"
    settings = config | {"site_dir": str(folder / name)}
    if not hooks:
        settings = {k: v for k, v in settings.items() if k != "hooks"}
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", str(path)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "ZOO_DOCS_PROCESSES": str(processes)},
    )  # fmt: skip
    files = {p.relative_to(folder / name).as_posix(): p.read_bytes() for p in (folder / name).rglob("*") if p.is_file()}
    return done.returncode, done.stderr, {n: f for n, f in files.items() if not n.startswith("sitemap")}


@pytest.fixture
def few(tmp_path: Path) -> tuple[Path, dict]:
    """Configuration over a handful of generated pages."""
    report = generate(tmp_path / "all" / "docs")
    config = yaml.safe_load(report.config.read_text())
    for name in (*PAGES, "assets/zoo.css"):
        target = tmp_path / "docs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((report.out / name).read_bytes())
    config |= {"docs_dir": str(tmp_path / "docs"), "nav": NAV}
    config |= {"extra_css": ["assets/zoo.css"], "extra_javascript": []}
    return tmp_path, config


def test_same_pages_and_same_search(few: tuple[Path, dict]) -> None:
    folder, config = few
    plain_code, plain_said, plain = build(folder, config, hooks=False, processes=1)
    code, said, fast = build(folder, config, hooks=True, processes=3)
    assert (plain_code, code) == (0, 0), said
    assert set(plain) == set(fast)
    # long signatures are laid out by another formatter, everything else is the same
    different = [n for n in plain if plain[n] != fast[n] and b"doc-signature" not in plain[n]]
    assert [n for n in different if n != "search/search_index.json"] == []
    alone = build(folder, config, hooks=True, processes=1)[2]
    assert alone == fast
    warnings = [line for line in plain_said.split("\n") if "WARNING" in line]
    assert sorted(warnings) == sorted(line for line in said.split("\n") if "WARNING" in line)
    assert warnings, "pages that were left out must be missed, or this does not test that warnings come back"


def test_a_fault_in_any_page_fails(few: tuple[Path, dict]) -> None:
    folder, config = few
    for name in (PAGES[1], PAGES[-1]):  # one that this process takes, one that a worker takes
        page = folder / "docs" / name
        text = page.read_text()
        page.write_text(text + "\n\n::: zoo.normalization.positional_norm.Nothing\n")
        code, said, _ = build(folder, config, hooks=True, processes=2)
        assert code != 0
        assert "Nothing" in said
        page.write_text(text)


def test_search_reads_what_the_theme_reads(built: Path) -> None:
    """Sections of every page, and of HTML that is harder than the site's own."""
    from material.plugins.search.plugin import Parser

    hard = [
        '<h1 id="a">A <code>b</code><a class="headerlink" href="#a">x</a></h1><p>1 &lt; 2 &amp; 3</p><pre><code>a\n\n  b</code></pre>',
        '<p>before</p><h2 id="b" data-search-exclude>hidden</h2><p>seen</p><div data-search-exclude><div>x</div> y</div><ul><li></li><li> z</li></ul>',
        '<div><h2 id="c">in</h2><p>of c</p></div><p>after it</p><h3>no id</h3><p><br/>line<img src="x" alt="&quot;>">end</p>',
        '<script>if (a < b) {}</script><!-- a > b --><p>text<sub>1</sub>\n and <sup></sup></p><td class="linenodiv">1</td><p>.</p>tail',
    ]
    pages = [p.read_text(encoding="utf-8") for p in sorted(built.rglob("*.html"))]
    articles = [lean(m[0]) for page in pages if (m := re.search(r"<article.*</article>", page, re.DOTALL))]
    assert len(articles) > 150
    for html in [*hard, *articles]:
        parser = Parser()
        parser.feed(html)
        parser.close()
        found = sections(html)
        assert found is not None, html[:200]
        assert [(s.id, "".join(s.title), "".join(s.text), s.is_excluded()) for s in found] == [
            (s.id, "".join(s.title), "".join(s.text), s.is_excluded()) for s in parser.data
        ], html[:200]
    assert sections("<p>1 < 2</p>") is None, "left to the theme"


def test_signature() -> None:
    short = "def f(a: int, b: str = ',') -> None: pass"
    assert signature(short, 60) == short
    long = signature(
        "def forward(stories: dict[str, int], words: tuple[int, ...] = (1, 2), sep: str = ', ') -> Tensor: pass", 60
    )
    assert long == (
        "def forward(\n    stories: dict[str, int],\n    words: tuple[int, ...] = (1, 2),\n    sep: str = ', ',\n) -> Tensor: pass"
    )
