"""Check a built site with the standard library alone: links, anchors, and that nothing is loaded from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes whose address the browser loads by itself. ``href`` of <a> only leads there.
_LOADS = {"src", "srcset", "data", "poster"}


class _Page(HTMLParser):
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
            elif name in _LOADS or (name == "href" and tag == "link" and ("rel", "canonical") not in attrs):
                self.loaded.append(value)


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def check(site: Path) -> list[str]:
    """Every problem in a built site as ``page: what``.

    Args:
        site: folder that mkdocs wrote.

    Returns:
        Dead internal links, missing anchors, resources of other hosts. Links that leave the site are not followed.
    """
    pages = {path: _read(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    problems = []
    for path, page in pages.items():
        shown = path.relative_to(site).as_posix()
        for address in page.loaded:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") or parts.netloc:
                problems.append(f"{shown}: loads {address}")
            elif parts.scheme == "" and parts.path and not _target(path, parts.path).exists():
                problems.append(f"{shown}: loads {address}, which does not exist")
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = _target(path, parts.path) if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                problems.append(f"{shown}: link to {address}, which does not exist")
            elif (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids | {"__toc", ""}
            ):
                problems.append(f"{shown}: link to {address}, whose anchor does not exist")
    return problems


def _target(page: Path, address: str) -> Path:
    return Path(str(page.parent / unquote(address))).resolve()
