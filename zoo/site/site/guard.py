"""Markdown extension, second line of defence: what the parser made of catalog text may carry no script and load nothing.

It walks the parsed tree, where attribute lists, links and images of the text have become elements. Raw HTML that the generator
writes itself is not in that tree; raw HTML of the catalog never gets this far (:mod:`zoo.site.text`).
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

_ALLOWED = {
    "href", "title", "id", "class", "align", "start", "type", "colspan", "rowspan", "role", "tabindex", "lang", "dir",
    "for", "name", "checked", "open", "disabled", "src", "alt", "loading", "width", "height", "data-search-exclude",
    "data-tabs", "data-facets", "data-noun", "rel", "markdown", "data-toc-label",
}  # fmt: skip
_SCHEME = re.compile(r"^[\s\x00-\x20]*([A-Za-z][A-Za-z0-9+.\-]*):")


class _Guard(Treeprocessor):
    def run(self, root: Element) -> None:
        for element in root.iter():
            for name in list(element.attrib):
                if not (name in _ALLOWED or name.startswith("aria-")):
                    if name == "style" and re.fullmatch(
                        r"\s*text-align:\s*(left|right|center);?\s*", element.attrib[name]
                    ):
                        continue
                    del element.attrib[name]
            href = element.attrib.get("href", "")
            scheme = _SCHEME.match(href)
            if scheme and scheme[1].lower() not in ("http", "https", "mailto"):
                del element.attrib["href"]
            source = element.attrib.get("src", "")
            if source and (_SCHEME.match(source) or source.startswith("//")):
                del element.attrib["src"]
            if element.tag in ("script", "iframe", "object", "embed", "style", "form"):
                element.tag = "span"


class Guard(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.treeprocessors.register(_Guard(md), "zoo_guard", 1)


def makeExtension(**options: Any) -> Guard:
    """Entry point of Python-Markdown."""
    return Guard(**options)
