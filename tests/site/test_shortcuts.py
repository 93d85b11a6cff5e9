"""Each shorter way gives what the library's own way gives."""

from __future__ import annotations

import ast
import importlib
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import markdown
import pytest
import yaml
from markdown.extensions import md_in_html
from markdown.extensions.tables import TableProcessor
from markdown.extensions.toc import TocTreeprocessor
from markdown.postprocessors import RawHtmlPostprocessor
from markdown.preprocessors import HtmlBlockPreprocessor
from markdown.treeprocessors import UnescapeTreeprocessor
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import _RawHTMLPreprocessor
from mkdocs.utils import get_relative_url
from pymdownx import highlight
from pymdownx.superfences import SuperFencesBlockPreprocessor
from test_speed import build

from zoo.site import rehearsal
from zoo.site.context import definition, source_signature, to
from zoo.site.links import _target
from zoo.site.menu import Views
from zoo.site.shortcuts import _Expressions, install
from zoo.site.templates import quicken

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = ["md_in_html", "tables", "toc", "pymdownx.superfences", "attr_list", "footnotes"]
DOCUMENTS = [
    "plain text\n\nof two paragraphs, x < y & z",
    "# [TOC]\n\n[TOC]\n\n## Two `[TOC]`\n\n* [TOC]",
    "<p>raw</p>\n\n<div markdown>\n\n*in* <b>it</b>\n\n<div>deep</div>\n</div>\n\nand <i>inline</i> &copy; &amp",
    "<span>a block</span>\n\n<p><b>x</b></p> tail\n\n<!-- comment -->\n\n<p>\n\nopen",
    "\\*escaped\\* and `\\*code\\*`\n\n| a | b |\n|---|---|\n| `x|y` | \\| |\n| ``a`|`` | `open |\n",
    "```python\nx = '<p>'\n```\n\n~~~\n<b>\n~~~\n\n    ``` not\n\n> ```\n> quoted\n> ```",
    "[a](b.md), [c][d], [e] [f], [g], [^1], ![h](i.png), ![j][k], ![l], [m\n[n]](o)\n\n[d]: e.md\n[g]: h.md\n[l]: l.png\n[^1]: note",
    "[a](b.md), [c][d], [e], ![h](i.png), ![j][k], <https://x.example>, <a@b.example>, line  \nbreak &amp; *[m](n)* __o__",
    '<a id="here">x</a> <a NAME=there> <p title="id=">no</p> name = id <h2\nid="split">',
]


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    install()


@pytest.mark.parametrize("source", DOCUMENTS)
def test_documents(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = markdown.Markdown(extensions=EXTENSIONS)
    found = short.convert(source), short.toc
    owners: list[tuple[Any, str]] = [
        (markdown.Markdown, "is_block_level"), (HtmlBlockPreprocessor, "run"), (md_in_html.HtmlBlockPreprocessor, "run"),
        (RawHtmlPostprocessor, "run"), (UnescapeTreeprocessor, "unescape"), (TocTreeprocessor, "replace_marker"), (TableProcessor, "_split"),
        (SuperFencesBlockPreprocessor, "search_nested"), (markdown.treeprocessors.InlineProcessor, "_InlineProcessor__handleInline"),
    ]  # fmt: skip
    for owner, name in owners:
        monkeypatch.setattr(owner, name, getattr(owner, name).whole)
    plain = markdown.Markdown(extensions=EXTENSIONS)
    assert found == (plain.convert(source), plain.toc)


@pytest.mark.parametrize("source", DOCUMENTS)
def test_anchors(source: str) -> None:
    short, plain = _RawHTMLPreprocessor(), _RawHTMLPreprocessor()
    assert short.run(source.split("\n")) == _RawHTMLPreprocessor.run.whole(plain, source.split("\n"))
    assert short.present_anchor_ids == plain.present_anchor_ids


def test_rows_of_tables() -> None:
    draw = random.Random(0)
    processor = TableProcessor(markdown.Markdown().parser, {})
    for _ in range(3000):
        row = "".join(draw.choices(["|", "`", "``", "\\", "a", " ", "b"], [4, 3, 1, 1, 4, 2, 2], k=draw.randrange(14)))
        assert processor._split(row) == TableProcessor._split.whole(processor, row), row


def test_raw_html_within_raw_html() -> None:
    """Stashes that hold others, wrapped in a paragraph or not, and numbers that are none of this document."""
    draw = random.Random(1)
    pieces = ["<p>", "</p>", "<div>x</div>", "text", "<b>", " "]
    for _ in range(500):
        md = markdown.Markdown()
        for i in range(4):
            inner = [md.htmlStash.get_placeholder(draw.randrange(i))] if i else []
            md.htmlStash.store("".join(draw.choices([*pieces, *inner], k=draw.randrange(4))))
        holes = [md.htmlStash.get_placeholder(i) for i in range(6)]
        text = "".join(draw.choices([*pieces, *(f"<p>{h}</p>" for h in holes), *holes], k=draw.randrange(9)))
        processor = RawHtmlPostprocessor(md)
        assert processor.run(text) == RawHtmlPostprocessor.run.whole(processor, text)


def test_small_ones() -> None:
    md = markdown.Markdown()
    for tag in ("p", "P", "div/", "span", "custom", None, len):
        assert md.is_block_level(tag) == md.is_block_level(tag) == markdown.Markdown.is_block_level.whole(md, tag)
    md.block_level_elements.append("custom")
    assert md.is_block_level("custom"), "an extension may add to them at any time"
    for alias in ("python", "Python", "bibtex", "sh"):
        for _ in range(2):
            assert type(highlight.get_lexer_by_name(alias)) is type(highlight.get_lexer_by_name.whole(alias))
    steps = md.treeprocessors
    before = list(steps)
    assert list(steps) == list(type(steps).__iter__.whole(steps)) == before
    steps.register(UnescapeTreeprocessor(md), "unescape", 0)
    assert steps["unescape"] not in before  # sorted by now
    assert list(steps) == list(type(steps).__iter__.whole(steps)) != before
    steps.deregister("unescape")
    assert list(steps) == list(type(steps).__iter__.whole(steps))
    assert len(steps) == len(before) - 1
    files = Files([File("a/b.md", "docs", "site", True)])
    for path in ("a/b.md", "a//b.md", "./a/b.md", "a/c.md"):
        assert files.get_file_from_path(path) is Files.get_file_from_path.whole(files, path)
    taken = r"\s?data-search-\w+=\"[^\"]+\""
    for text in ('<h2 data-search-exclude="x" id="a">', '<h2 data-search-exclude="" id="a">', "<p>"):
        assert _Expressions().sub(taken, "", text) == importlib.import_module("re").sub(taken, "", text)


def test_attributes_and_templates_are_found_as_jinja_finds_them(tmp_path: Path) -> None:
    class Both:
        known = "attribute"

        def __getitem__(self, name: str) -> str:
            return {"known": "item", "other": "item"}[name]

    (tmp_path / "part.html").write_text("{{ x }}")
    plain = jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path), auto_reload=False)
    short = jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path), auto_reload=False)
    quicken(short)
    quicken(short)
    for obj in (
        {"a": 1, "items": 2},
        Both(),
        [1],
        None,
        "text",
        3,
        dict,
        SimpleNamespace(a=1),
        jinja2.Undefined(name="u"),
    ):
        for name in ("a", "items", "known", "other", "upper", "missing"):
            outcomes = []
            for env in (plain, short):
                try:
                    found = env.getattr(obj, name)
                except jinja2.UndefinedError as error:
                    found = str(error)
                undefined = isinstance(found, jinja2.Undefined)
                outcomes.append(found._undefined_message if undefined else repr(found))
            assert outcomes[0] == outcomes[1], (obj, name)
    text = "{% include 'part.html' %}{% set x = 2 %}{% include 'part.html' %}{% import 'part.html' as part with context %}{{ y.z }}"
    assert short.from_string(text).render(x=1, y={"z": 3}) == plain.from_string(text).render(x=1, y={"z": 3}) == "123"
    assert short.get_template("part.html") is short.get_template("part.html", "other.html")
    assert short.get_template("part.html", globals={"x": 5}).render() == "5"
    with pytest.raises(jinja2.TemplateNotFound):
        short.get_template("none.html")


# --------------------------------------------------------------------------- menu and links


def _item(url: str | None, *children: Any) -> Any:
    return SimpleNamespace(children=list(children) or None, **({} if url is None else {"url": url}))


@pytest.mark.parametrize(
    "urls",
    [
        [
            "./",
            "a/",
            "a/b/",
            "a/c/",
            "a/c/d/",
            "a/e/",
            "b/",
            "b/b/",
            "../x/",
            "https://x.example/a/",
            "v1.2/",
            "v1.2/a/",
            "z/y/x/",
        ],
        ["index.html", "a/index.html", "a/b.html", "a/c.html", "a/c/d.html", "b.html", "https://x.example/a.html"],
        ["", "a/b/", "a/b/", "a/c/", "#top", "/absolute/"],
    ],
)
def test_pages_of_one_view_see_the_same_links(urls: list[str]) -> None:
    """All but the own entry. A page that stands in the menu twice has two of its own."""
    views = Views(SimpleNamespace(items=[_item(None, *(_item(url) for url in urls[1:])), _item(urls[0])]))
    shared = 0
    for here in [*urls, "not/in/menu/", "not/either/"]:
        for other in urls:
            if views.of(here) == views.of(other):
                rest = [u for u in urls if u not in (here, other)]
                assert [get_relative_url(u, here) for u in rest] == [get_relative_url(u, other) for u in rest]
                if urls.count(here) > 1:
                    assert here == other
                shared += here != other
    assert shared > 0 or "" in urls, "or nothing was drawn once"


def test_targets_and_relative_links() -> None:
    import posixpath
    from urllib.parse import unquote

    for folder in ("", "a", "a/b"):
        for address in (
            "",
            ".",
            "..",
            "../..",
            "../../../x",
            "x/../y",
            "/x",
            "//x",
            "a%20b/",
            "./c/",
            "..x",
            "../a/b/c",
        ):
            path = posixpath.normpath(posixpath.join("/", folder, unquote(address)))
            above = posixpath.normpath(posixpath.join(folder, unquote(address))).startswith("..")
            assert _target(folder, address) == (".." if above else path.lstrip("/")), (folder, address)
    pages = ["index.md", "a/index.md", "a/b.md", "a/b/c.md", "b.md", "ab/c.md"]
    for here in pages:
        for there in pages:
            assert to(here, there) == posixpath.relpath(there, posixpath.dirname(here) or ".")


def test_definitions_are_cut_out_of_modules() -> None:
    """As the whole module has them: every class and function of the package, and one that ends in odd lines."""
    count = 0
    for path in (ROOT / "zoo").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        nodes = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        for name, node in nodes.items():
            node.decorator_list = []
            found = definition(text, name)
            assert found is not None
            assert ast.dump(found) == ast.dump(node), f"{path}: {name}"
            count += 1
    assert count > 500
    odd = 'def f(\n    a: int,\n) -> str:\n    return """\nnot indented"""\n\nclass f:\n    x = [\n1,\n]\n# last\n'
    assert isinstance(definition(odd, "f"), ast.ClassDef)
    assert isinstance(definition(odd.replace("class f", "class g"), "f"), ast.FunctionDef)
    assert definition(odd, "h") is None
    assert source_signature("zoo.weights.nothing:Nothing") is None


# --------------------------------------------------------------------------- before the first page


def test_options_of_the_documentation_are_valid() -> None:
    """The build leaves pydantic out, which would check them."""
    config = importlib.import_module("mkdocstrings_handlers.python._internal.config")
    assert "pydantic" in sys.modules
    assert config.dataclass.__module__.startswith("pydantic"), "otherwise this proves nothing"
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!ENV", ""))
    python = next(p["mkdocstrings"] for p in [settings["plugins"]])["handlers"]["python"]
    config.PythonConfig.from_data(**python)
    config.PythonOptions.from_data(**python["options"])
    with pytest.raises(Exception, match="heading_level"):
        config.PythonOptions.from_data(**python["options"] | {"heading_level": "many"})


def test_rehearsal_works(tmp_path: Path) -> None:
    """A name in it that is gone would only make builds slower."""
    from mkdocs.config import load_config

    (tmp_path / "docs").mkdir()
    plugins = {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)]}}}}
    path = tmp_path / "mkdocs.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "INHERIT": str(ROOT / "mkdocs.yml"),
                "plugins": plugins,
                "theme": {"name": "material", "custom_dir": str(ROOT / "overrides")},
            }
        )
    )
    config = load_config(str(path), docs_dir=str(tmp_path / "docs"))
    config.plugins.on_startup(command="build", dirty=False)
    config = config.plugins.on_config(config)
    assert rehearsal.rehearse(config)


def test_docstrings_link_from_their_page(tmp_path: Path) -> None:
    """One parser serves all docstrings; a relative link in one still starts from the page that shows it."""
    (tmp_path / "docs" / "b").mkdir(parents=True)
    (tmp_path / "pkg.py").write_text(
        'def f() -> None:\n    """See [two](b/two.md)."""\n\n\ndef g() -> None:\n    """See [one](../one.md)."""\n'
    )
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[one](one.md), [two](b/two.md)\n")
    (tmp_path / "docs" / "one.md").write_text("# One\n\n::: pkg.f\n")
    (tmp_path / "docs" / "b" / "two.md").write_text("# Two\n\n::: pkg.g\n")
    config = {
        "site_name": "x", "docs_dir": str(tmp_path / "docs"), "theme": {"name": "material", "font": False},
        "hooks": [str(ROOT / "zoo" / "site" / "speed.py")],
        "plugins": {"search": {}, "mkdocstrings": {"handlers": {"python": {"paths": [str(tmp_path)]}}}},
    }  # fmt: skip
    _, said, plain = build(tmp_path, config, hooks=False, processes=1)
    code, said_short, short = build(tmp_path, config, hooks=True, processes=1)
    assert code == 0, said_short
    assert [line for line in said_short.split("\n") if "WARNING" in line] == [
        line for line in said.split("\n") if "WARNING" in line
    ]
    assert b'href="../../one/"' in short["b/two/index.html"]
    assert {n: f for n, f in short.items() if n.endswith(".html")} == {
        n: f for n, f in plain.items() if n.endswith(".html")
    }
