"""What the search index holds of a page: the theme's parser, without reading HTML character by character.

The theme's own class decides what a section is; :func:`sections` follows it step by step over tags that one regular expression
finds, and hands pages that are not plain HTML to the original. A test compares the two over every page of the site.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Any

_DROPPED = re.compile(r"<(svg|details|figure)\b.*?</\1>", re.DOTALL)
_SECTION = re.compile(r"<h2[^>]*data-search-exclude[^>]*>.*?(?=<h2\b|\Z)", re.DOTALL)
_TAG = re.compile(r"""<(/?)([a-z][a-z0-9]*)((?:\s+[^\s=>"'/]+(?:="[^"]*")?)*)\s*/?>|<!--.*?-->""", re.DOTALL)
_ATTRIBUTE = re.compile(r"""\s([^\s=>"'/]+)(?:="([^"]*)")?""")
_RAW = re.compile(r"<(script|style)\b.*?</\1>", re.DOTALL)
_CODE = re.compile(r"<pre[ >].*?</pre>", re.DOTALL)
_SPAN = re.compile(r'<span(?: class="[^"<>]*")?>|</span>')
_HEADINGS = frozenset(f"h{level}" for level in range(1, 7))
_KEEP = frozenset({"p", "code", "pre", "li", "ol", "ul", "sub", "sup"})
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)


class Section:
    """As the theme's class of this name: what ``create_entry_for_section`` reads."""

    def __init__(self, tag: str, depth: float = 0, excluded: bool = False) -> None:
        self.tag, self.depth, self.excluded = tag, depth, excluded
        self.text: list[str] = []
        self.title: list[str] = []
        self.id: str | None = None

    def is_excluded(self) -> bool:
        return self.excluded


def _plain(code: re.Match[str]) -> str:
    """A block of code without its colours: what stands in them is text, one way or the other."""
    plain = _SPAN.sub("", code[0])
    return code[0] if "<span" in plain else plain


def sections(html: str) -> list[Section] | None:
    """Sections of a page, or None where the HTML is not as serializers write it."""
    html = _CODE.sub(_plain, _RAW.sub("", html))
    count = html.count("<")
    found: list[Section] = []
    section: Section | None = None
    context: list[str] = []  # names only: the theme compares elements by them
    links: list[bool] = []  # for each of them: is it a heading's own link
    skip: set[str] = set()
    end = 0
    for tag in _TAG.finditer(html):
        count -= 1
        start = tag.start()
        if start > end and (not skip or skip.isdisjoint(context)):
            section = _data(unescape(html[end:start]), found, section, context, links)
        end = tag.end()
        closes, name, attributes = tag.groups()
        if not name:
            continue
        if not closes:
            if name in _VOID:
                continue
            context.append(name)
            links.append(name == "a" and 'class="headerlink"' in attributes)
            if name in _HEADINGS:
                facts = dict(_ATTRIBUTE.findall(attributes))
                if "id" in facts:
                    if name != "h1" and not found:
                        found.append(Section("hx", len(context)))
                    section = Section(name, len(context), "data-search-exclude" in facts)
                    if found:
                        section.id = unescape(facts["id"])
                    found.append(section)
            if section is None:
                section = Section("hx")
                found.append(section)
            if attributes and ("data-search-exclude" in attributes or "linenodiv" in attributes):
                facts = dict(_ATTRIBUTE.findall(attributes))
                if "data-search-exclude" in facts or facts.get("class") == "linenodiv":
                    skip.add(name)
                    continue
            if name in _KEEP and (not skip or skip.isdisjoint(context)):
                (section.title if section.tag in context else section.text).append(f"<{name}>")
        if closes or html[end - 2] == "/":
            section = _end(name, found, section, context, links, skip)
    if count:  # something is no tag of ours
        return None
    if end < len(html) and skip.isdisjoint(context):
        _data(unescape(html[end:]), found, section, context, links)
    return found


def _end(
    name: str, found: list[Section], section: Section | None, context: list[str], links: list[bool], skip: set[str]
) -> Section | None:
    if not context or context[-1] != name or section is None:
        return section
    if section.depth > len(context):  # leaving the element that the heading stood in
        for outer in reversed(found):
            if outer.depth <= len(context):
                section.depth = float("inf")
                section = outer
                break
    context.pop()
    links.pop()
    if name in skip:
        skip.discard(name)
        return section
    if name in _KEEP and skip.isdisjoint(context):
        data = section.title if section.tag in context else section.text
        index = data.index(f"<{name}>")
        if any(not data[i].isspace() for i in range(index + 1, len(data))):
            data.append(f"</{name}>")
        else:
            del data[index:]
    return section


def _data(
    data: str, found: list[Section], section: Section | None, context: list[str], links: list[bool]
) -> Section | None:
    code = "pre" in context
    blank = data.isspace()
    if not code:
        data = " " if blank else data.replace("\n", " ")
    if section is None:
        section = Section("hx")
        found.append(section)
    if section.tag in context:
        if not any(links):
            section.title.append(escape(data, quote=False))
    elif blank:
        if not section.text or not section.text[-1].isspace() or code:
            section.text.append(data)
    else:
        section.text.append(escape(data, quote=False))
    return section


class _Lean:
    """A page for the theme's parser, without what it would read and throw away."""

    def __init__(self, page: Any, content: str) -> None:
        self.content = content
        self.meta, self.toc, self.url, self.title = page.meta, page.toc, page.url, page.title


def lean(content: str) -> str:
    """HTML without what the index leaves out anyway."""
    return _DROPPED.sub("", _SECTION.sub("", content))


def read_less(index: Any) -> None:
    """Let a search index of the theme take its entries from here."""
    whole: Callable[[Any], None] = index.add_entry_from_context

    def add(page: Any) -> None:
        if (page.meta.get("search") or {}).get("exclude"):
            return
        content = lean(page.content)
        try:
            found = sections(content)
        except ValueError:  # an end without its beginning
            found = None
        if found is None:
            whole(_Lean(page, content))
            return
        for section in found:
            if not section.is_excluded():
                index.create_entry_for_section(section, page.toc, page.url, page)

    index.add_entry_from_context = add
