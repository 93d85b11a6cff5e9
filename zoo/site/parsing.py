"""Shorter ways through Python-Markdown's steps that lead to the same tree and the same text.

Most steps look at every line or element of a document, and find nothing to do on most documents. Each function here says at once
where that is so, and leaves the rest to the step itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from markdown import Markdown, postprocessors, preprocessors, util
from markdown.extensions import md_in_html
from markdown.extensions.tables import TableProcessor
from markdown.extensions.toc import TocTreeprocessor
from markdown.treeprocessors import InlineProcessor, UnescapeTreeprocessor


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """``owner.name = make(owner.name)``, once, and only where there is such a thing."""
    whole = getattr(owner, name, None)
    if whole is None or getattr(whole, "shorter", False):
        return
    made = make(whole)
    made.shorter, made.whole = True, whole
    setattr(owner, name, made)


def shorten() -> None:
    """All of them."""
    _try_fewer_patterns()
    replace(Markdown, "is_block_level", _levels)
    for name in ("register", "deregister"):
        replace(util.Registry, name, _anew)
    replace(util.Registry, "__iter__", _in_order)
    for owner in (preprocessors.HtmlBlockPreprocessor, md_in_html.HtmlBlockPreprocessor):
        replace(owner, "run", _no_html)
    replace(postprocessors.RawHtmlPostprocessor, "run", _restore)
    replace(UnescapeTreeprocessor, "unescape", _unescape)
    replace(TocTreeprocessor, "replace_marker", _marker)
    replace(TableProcessor, "_split", _cells)
    _shorten_fences()
    _shorten_anchors()


# --------------------------------------------------------------------------- inline patterns

#: No inline pattern of the configured extensions matches text without one of these.
_MARKUP = re.compile(r"[\\`*_\[\]!<>&$\n@{}()~^:+=\x02\x03-]")
#: What text needs one of to match a pattern of that class.
_NEEDS = {
    ("pymdownx.inlinehilite", "InlineHilitePattern"): ("`", ""),
    ("pymdownx.arithmatex", "InlineArithmatexPattern"): ("$", "\\"),
    ("markdown.inlinepatterns", "EscapeInlineProcessor"): ("\\", ""),
    ("markdown.extensions.footnotes", "FootnoteInlineProcessor"): ("[^", ""),
    ("markdown.inlinepatterns", "ReferenceInlineProcessor"): ("[", ""),
    ("markdown.inlinepatterns", "LinkInlineProcessor"): ("](", ""),
    ("markdown.inlinepatterns", "ImageInlineProcessor"): ("![", ""),
    ("markdown.inlinepatterns", "ImageReferenceInlineProcessor"): ("![", ""),
    ("markdown.inlinepatterns", "ShortReferenceInlineProcessor"): ("[", ""),
    ("markdown.inlinepatterns", "ShortImageReferenceInlineProcessor"): ("![", ""),
    ("mkdocs_autorefs._internal.references", "AutorefsInlineProcessor"): ("[", ""),
    ("markdown.inlinepatterns", "AutolinkInlineProcessor"): ("<", ""),
    ("markdown.inlinepatterns", "AutomailInlineProcessor"): ("<", ""),
    ("markdown.inlinepatterns", "SubstituteTagInlineProcessor"): ("\n", ""),
    ("markdown.inlinepatterns", "DelimiterProcessor"): ("*", "_"),
}
#: These read each pair of brackets, letter by letter, to look for another pair behind it.
_PAIRS = re.compile(r"\]\s?\[")
_IN_PAIRS = frozenset(["ReferenceInlineProcessor", "AutorefsInlineProcessor"])
#: These then look the words up among addresses that the document defines; most define none.
_DEFINED = frozenset(
    kind for module, kind in _NEEDS if kind.endswith("ReferenceInlineProcessor") or "ShortImage" in kind
)
_APPLY = "_InlineProcessor__applyPattern"


def _needs(pattern: Any) -> tuple[str, str]:
    """Texts that a pattern needs one of; empty where that is not known."""
    kind = type(pattern)
    if kind.__name__ == "HtmlInlineProcessor":  # two patterns: tags and entities
        return {"(<": "<", "(&": "&"}.get(pattern.pattern[:2], ""), ""
    return _NEEDS.get((kind.__module__, kind.__name__), ("", ""))


def _try_fewer_patterns() -> None:
    """Text is tried against seventeen patterns, one after the other; most lack a character that a match must have."""

    def make(whole: Any) -> Any:
        def handle(self: Any, data: str, patternIndex: int = 0) -> str:
            if not _MARKUP.search(data) or isinstance(data, util.AtomicString):
                return data
            patterns = self.inlinePatterns
            known: list[tuple[Any, str, str, bool, bool]] = getattr(self, "_zoo_patterns", [])
            if len(known) != len(patterns):
                kinds = [(p, type(p).__name__ if _needs(p)[0] else "") for p in patterns]
                known = [(p, *_needs(p), kind in _IN_PAIRS, kind in _DEFINED) for p, kind in kinds]
                self._zoo_patterns = known
            apply = getattr(self, _APPLY)
            for at in range(patternIndex, len(known)):
                pattern, one, other, pairs, defined = known[at]
                if one and one not in data and not (other and other in data):
                    continue
                if (pairs and not _PAIRS.search(data)) or (defined and not self.md.references):
                    continue
                start, matched = 0, True
                while matched:
                    data, matched, start = apply(pattern, data, at, start)
            return data

        return handle

    if hasattr(InlineProcessor, _APPLY):
        replace(InlineProcessor, "_InlineProcessor__handleInline", make)


# --------------------------------------------------------------------------- all documents


def _in_order(whole: Any) -> Any:
    """The list of all steps, or of all kinds of blocks, is made anew for each document, or block."""

    def __iter__(self: Any) -> Any:
        known = self.__dict__.get("_zoo_items")
        if known is None:
            known = self._zoo_items = list(whole(self))
        return iter(known)

    return __iter__


def _anew(whole: Any) -> Any:
    def change(self: Any, *arguments: Any, **more: Any) -> None:
        self.__dict__.pop("_zoo_items", None)
        whole(self, *arguments, **more)

    return change


# --------------------------------------------------------------------------- raw HTML


def _levels(whole: Any) -> Any:
    """Whether an element is a block is asked many times for each, and answered by a list of seventy names."""

    def is_block_level(self: Any, tag: Any) -> bool:
        known = self.__dict__.get("_zoo_levels")
        if known is None or known[0] != len(self.block_level_elements):
            known = self._zoo_levels = (len(self.block_level_elements), {})
        answer: bool | None = known[1].get(tag)
        if answer is None:
            answer = known[1][tag] = whole(self, tag)
        return answer

    return is_block_level


def _no_html(whole: Any) -> Any:
    """A parser of HTML takes text apart that has none, and puts it together again."""

    def run(self: Any, lines: list[str]) -> list[str]:
        return whole(self, lines) if any("<" in line or "&" in line for line in lines) else lines

    return run


_PLACE = util.HTML_PLACEHOLDER % "([0-9]+)"
_BEGIN = _PLACE[: _PLACE.index("(")]


def _restore(whole: Any) -> Any:
    """Raw HTML goes back by a pattern that tries every tag, in HTML that holds no further placeholder, too."""
    found = re.compile(_PLACE)

    def run(self: Any, text: str) -> str:
        stash = self.md.htmlStash

        def fill(text: str) -> str:
            if _BEGIN not in text:
                return text
            parts, end = [], 0
            for place in found.finditer(text):
                if (key := int(place[1])) >= stash.html_counter:
                    continue
                html = self.stash_to_string(stash.rawHtmlBlocks[key])
                start, after = place.span()
                if start - 3 >= end and text.startswith("<p>", start - 3) and text.startswith("</p>", after):
                    start, after = start - 3, after + 4
                    html = html if self.isblocklevel(html) else f"<p>{html}</p>"
                parts += [text[end:start], fill(html)]
                end = after
            return "".join([*parts, text[end:]])

        return fill(text) if stash.html_counter else text

    return run


# --------------------------------------------------------------------------- steps over all elements


def _unescape(whole: Any) -> Any:
    """Few texts hold an escaped character."""

    def unescape(self: Any, text: str) -> str:
        return whole(self, text) if util.STX in text else text

    return unescape


def _marker(whole: Any) -> Any:
    """The place of a table of contents is searched for in all that every element holds, those within it included."""

    def replace_marker(self: Any, root: Any, elem: Any) -> None:
        if any(e.text and self.marker in e.text for e in root.iter()):
            whole(self, root, elem)

    return replace_marker


def _cells(whole: Any) -> Any:
    """A bar divides a row of a table, unless it is escaped or code."""

    def split(self: Any, row: str) -> list[str]:
        if "\\" in row or "``" in row:
            return whole(self, row)
        if "`" in row and any("|" in code for code in row.split("`")[1::2]):
            return whole(self, row)
        return row.split("|")

    return split


def _shorten_fences() -> None:
    """A document is read for fences line by line."""
    try:
        from pymdownx.superfences import SuperFencesBlockPreprocessor
    except ImportError:
        return

    def make(whole: Any) -> Any:
        def search(self: Any, lines: list[str]) -> list[str]:
            return whole(self, lines) if any("```" in line or "~~~" in line for line in lines) else lines

        return search

    replace(SuperFencesBlockPreprocessor, "search_nested", make)


_NAMED = re.compile(r"[\s\"'/](?:id|name)[\s=>/]", re.IGNORECASE)


def _shorten_anchors() -> None:
    """mkdocs takes the source apart as HTML for the anchors in it."""
    from mkdocs.structure import pages

    def make(whole: Any) -> Any:
        def run(self: Any, lines: list[str]) -> list[str]:
            text = "\n".join(lines)
            if "<" in text and _NAMED.search(text):
                return whole(self, lines)
            self.present_anchor_ids = set()
            return lines

        return run

    if hasattr(pages, "_RawHTMLPreprocessor"):
        replace(pages._RawHTMLPreprocessor, "run", make)
