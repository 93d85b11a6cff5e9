"""Catalog text is untrusted: hostile titles, notes and records stay text, in Markdown and in the HTML made of it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import markdown
import pytest
import yaml

from zoo.registry.load import load
from zoo.registry.lookup import Registry
from zoo.site.context import Site
from zoo.site.pages import pages
from zoo.site.text import code, inline, notes, plain

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</code><script>alert(1)</script>",
    "`<script>alert(1)</script>`",
    "`` ` <script>alert(1)</script>",
    "$a <script>alert(1)</script> b$",
    "$a | **x**{onclick=alert(1)}$ |",
    "**x**{onclick=alert(1)}",
    "**x**{: onclick=alert(1) style=position:fixed }",
    "`x`{: onmouseover=alert(1)}",
    "[x](javascript:alert(1))",
    "[x]( JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](&#106;avascript:alert(1))",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/track.png)",
    "![x][z]\n\n[z]: https://evil.example/track.png",
    "::: os.path",
    "--8<-- \"/etc/passwd\"",
    "<!-- material/tags -->",
    "<div markdown>**x**</div>",
    "```{.python onclick=alert(1)}\n<script>alert(1)</script>\n```",
    "~~~\n<script>alert(1)</script>\n~~~\n<script>alert(2)</script>",
    "```\nunclosed <script>alert(1)</script>",
    "- item\n\n    <script>alert(1)</script>\n",
    "    <script>indented</script>",
    "| a |\n|---|\n| <script>alert(1)</script> `|` <b> |",
    "$$\n</div><script>alert(1)</script>\n$$",
    "# Title {onclick=alert(1)}",
    "> <iframe src=https://evil.example></iframe>",
    "[^1]\n\n[^1]: <script>alert(1)</script>",
    "*[HTML]: <script>alert(1)</script>\n\nHTML",
    "\\<script>alert(1)\\</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]  # fmt: skip


def extensions() -> tuple[list[str], dict[str, dict]]:
    """Markdown extensions as the site has them."""
    text = (ROOT / "mkdocs.yml").read_text().replace("!ENV", "")
    found = yaml.safe_load(text)["markdown_extensions"]
    return list(found), {k: v for k, v in found.items() if v}


def render(text: str) -> str:
    names, settings = extensions()
    return markdown.markdown(text, extensions=["meta", *names], extension_configs=settings)


class Watch(HTMLParser):
    """Collects what a browser would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "style", "form", "base", "meta"):
            self.bad.append(tag)
        for name, value in attrs:
            address = (value or "").strip().lower()
            if name.startswith("on") or (name == "style" and "text-align" not in address):
                self.bad.append(f"{tag} {name}")
            if name in ("href", "src", "action", "xlink:href") and address.startswith(
                ("javascript:", "data:", "vbscript:")
            ):
                self.bad.append(f"{tag} {name}={value}")
            if name == "src" and "//" in address:
                self.bad.append(f"{tag} loads {value}")


def dangers(html: str) -> list[str]:
    watch = Watch()
    watch.feed(html)
    return watch.bad


def test_the_watch_sees_danger() -> None:
    assert dangers("<p onclick=x><script></script><a href='javascript:x'>") == [
        "p onclick",
        "script",
        "a href=javascript:x",
    ]
    assert dangers(render("<script>alert(1)</script>")), (
        "raw Markdown would be dangerous, so the escaping is what is tested"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_notes(text: str) -> None:
    assert dangers(render(notes(f"Before.\n\n{text}\n\nafter {text} end"))) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_cells_and_lines(text: str) -> None:
    row = f"| a | b | c |\n|---|---|---|\n| {inline(text, cell=True)} | {plain(text)} | {code(text)} |\n"
    assert dangers(render(f"# {plain(text)}\n\n{inline(text)}\n")) == []
    html = render(row)
    assert dangers(html) == []
    assert html.count("<td") == 3, html


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_is_literal(text: str) -> None:
    class Text(HTMLParser):
        seen = ""

        def handle_data(self, data: str) -> None:
            self.seen += data

    reader = Text()
    reader.feed(render(plain(text)))
    assert reader.seen == " ".join(text.split())


def test_a_hostile_paper(tmp_path: Path) -> None:
    """Every text field of a record at once, through the whole generator."""
    evil = "</title><script>alert(1)</script> | `x` **y**{onclick=alert(1)} [l](javascript:alert(1)) ![i](https://evil.example/i)"
    root = tmp_path / "root"
    (root / "catalog" / "normalization").mkdir(parents=True)
    (root / "registry.yaml").write_text(
        yaml.safe_dump({
            "methods": {"toy": {
                "paper": "toy", "kind": "norm", "target": "torch.nn:BatchNorm2d", "summary": evil, "aliases": [evil[:60]],
                "deviations": [evil], "presets": {"p": {"values": {"eps": 0.1}, "source": evil}},
                "parity": {"oracle": evil, "test": "tests/x.py::test_x", "tolerance": 0.1}, "weights": {"timm": [evil], "why": evil},
            }},
            "models": {"toy_net": {
                "backbone": "resnet18", "papers": ["toy"], "summary": evil, "recipe": evil,
                "checkpoints": {"hub": [{
                    "tag": "t", "repo": "a/b", "file": "x.safetensors", "licence": evil, "trained_on": evil, "recipe": evil,
                    "metrics": [{"name": evil, "value": 1.0, "dataset": evil, "protocol": evil, "source": evil}],
                }]},
            }},
        })
    )  # fmt: skip
    head = {
        "title": evil, "authors": [evil, "B"], "venue": evil, "year": 2020, "url": "https://example.org/a_(b)", "summary": evil,
        "code": [{"repo": evil, "licence": evil}], "aliases": [evil[:79]],
        "defaults": [{"name": evil, "paper": evil, "code": evil, "source": evil}],
        "numbers": [{"metric": evil, "value": evil, "dataset": evil, "setting": evil, "source": evil, "unit": evil}],
        "claims": [{"id": "c", "statement": evil, "reported": {"value": evil, "unit": evil, "setting": evil, "source": evil}}],
    }  # fmt: skip
    body = f"{evil}\n\n## Method\n\n{evil}\n\n## When to use it\n\n{evil}\n\n## Where re-implementations go wrong\n\n- {evil}\n\n## {evil}\n\nx\n"
    (root / "catalog" / "normalization" / "toy.md").write_text(f"---\n{yaml.safe_dump(head)}---\n{body}")
    site = Site(Registry(load(root, use_cache=False), root), ROOT / "docs", ROOT / "benchmarks")
    for path, text in pages(site).items():
        if path.endswith(".md"):
            html = render("\n".join(line for line in text.split("\n") if not line.startswith(":::")))
            html = html.replace('<script type="application/json">', "<b>").replace("</script></div>", "</b></div>")
            assert dangers(html) == [], path
    assert "<script>alert" not in pages(site)["graph.md"]
