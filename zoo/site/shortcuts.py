"""Shorter ways through Markdown, Pygments, griffe and mkdocstrings that lead to the same page.

Each replaces one function of a library where the library is what it was written for, and leaves everything as it is otherwise.
:func:`install` may be called more than once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import markdown
from markdown import util
from markdown.treeprocessors import InlineProcessor
from mkdocs.structure import pages
from mkdocs.structure.pages import Page


def install() -> None:
    """All of them."""
    _format_signatures_here()
    _read_fewer_sources()
    _try_fewer_patterns()
    _make_styles_once()
    _keep_parsers()
    _stash_pictures()


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """``owner.name = make(owner.name)``, once, and only where there is such a thing."""
    whole = getattr(owner, name, None)
    if whole is None or getattr(whole, "shorter", False):
        return
    made = make(whole)
    made.shorter = True
    setattr(owner, name, made)


# --------------------------------------------------------------------------- signatures


def signature(text: str, line_length: int) -> str:
    """``def f(a, b=1): pass`` on one line where it fits, else one parameter a line, as formatters lay it out."""
    text = " ".join(text.split())
    if len(text) <= line_length + len("def : pass"):
        return text
    start = text.find("(")
    parts, depth, quote, end = [""], 0, "", start
    for end in range(start, len(text)):
        c = text[end]
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
            if depth == 1:
                continue
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                break
        elif c == "," and depth == 1:
            parts.append("")
            continue
        parts[-1] += c
    inside = "".join(f"    {part.strip()},\n" for part in parts if part.strip())
    return f"{text[:start]}(\n{inside}){text[end + 1 :]}" if inside else text


def _format_signatures_here() -> None:
    """mkdocstrings starts a formatter's process for every signature; there are hundreds."""
    try:
        from mkdocstrings_handlers.python._internal import rendering
    except ImportError:
        return
    if hasattr(rendering, "_get_formatter"):
        setattr(rendering, "_get_formatter", lambda: signature)  # noqa: B010


#: Packages of zoo that no page documents; reading their sources is a third of reading them all.
UNDOCUMENTED = frozenset({"claims", "cli", "factory", "hub", "recipes", "registry", "site", "training"})


def _read_fewer_sources() -> None:
    """griffe reads every module of a package to document one class of it."""
    try:
        from griffe import GriffeLoader
    except ImportError:
        return

    def make(whole: Any) -> Any:
        def load(self: Any, module: Any, subparts: Any, subpath: Any) -> None:
            if not (module.path == "zoo" and subparts and subparts[0] in UNDOCUMENTED):
                whole(self, module, subparts, subpath)

        return load

    _replace(GriffeLoader, "_load_submodule", make)


# --------------------------------------------------------------------------- inline patterns

#: No inline pattern of the configured extensions matches text without one of these.
_MARKUP = re.compile(r"[\\`*_\[\]!<>&$\n@{}()~^:+=\x02\x03-]")
#: Characters of which text needs one to match a pattern of that class.
_NEEDS = {
    ("pymdownx.inlinehilite", "InlineHilitePattern"): "`",
    ("pymdownx.arithmatex", "InlineArithmatexPattern"): "$\\",
    ("markdown.inlinepatterns", "EscapeInlineProcessor"): "\\",
    ("markdown.extensions.footnotes", "FootnoteInlineProcessor"): "[",
    ("markdown.inlinepatterns", "ReferenceInlineProcessor"): "[",
    ("markdown.inlinepatterns", "LinkInlineProcessor"): "[",
    ("markdown.inlinepatterns", "ImageInlineProcessor"): "[",
    ("markdown.inlinepatterns", "ImageReferenceInlineProcessor"): "[",
    ("markdown.inlinepatterns", "ShortReferenceInlineProcessor"): "[",
    ("markdown.inlinepatterns", "ShortImageReferenceInlineProcessor"): "[",
    ("mkdocs_autorefs._internal.references", "AutorefsInlineProcessor"): "[",
    ("markdown.inlinepatterns", "AutolinkInlineProcessor"): "<",
    ("markdown.inlinepatterns", "AutomailInlineProcessor"): "<",
    ("markdown.inlinepatterns", "SubstituteTagInlineProcessor"): "\n",
    ("markdown.inlinepatterns", "DelimiterProcessor"): "*_",
}
_APPLY = "_InlineProcessor__applyPattern"


def _needs(pattern: Any) -> str:
    """Characters that a pattern needs one of; empty where that is not known."""
    kind = type(pattern)
    if kind.__name__ == "HtmlInlineProcessor":  # two patterns: tags and entities
        return {"(<": "<", "(&": "&"}.get(pattern.pattern[:2], "")
    return _NEEDS.get((kind.__module__, kind.__name__), "")


def _try_fewer_patterns() -> None:
    """Text is tried against seventeen patterns, one after the other; most lack a character that a match must have."""

    def make(whole: Any) -> Any:
        def handle(self: Any, data: str, patternIndex: int = 0) -> str:
            if not _MARKUP.search(data) or isinstance(data, util.AtomicString):
                return data
            patterns = self.inlinePatterns
            known: list[tuple[Any, str, str]] = getattr(self, "_zoo_patterns", [])
            if len(known) != len(patterns):
                known = [(p, *((needs := _needs(p))[:1], needs[1:])) for p in patterns]
                self._zoo_patterns = known
            apply = getattr(self, _APPLY)
            for at in range(patternIndex, len(known)):
                pattern, one, other = known[at]
                if one and one not in data and not (other and other in data):
                    continue
                start, matched = 0, True
                while matched:
                    data, matched, start = apply(pattern, data, at, start)
            return data

        return handle

    if hasattr(InlineProcessor, _APPLY):
        _replace(InlineProcessor, "_InlineProcessor__handleInline", make)


# --------------------------------------------------------------------------- code


def _make_styles_once() -> None:
    """Every block of code gets a formatter of its own, which works out the style's rules again."""
    from pygments.formatters.html import HtmlFormatter

    found: dict[Any, tuple[dict[Any, Any], dict[Any, Any]]] = {}

    def make(whole: Any) -> Any:
        def create(self: Any) -> None:
            key = (type(self), self.style, self.classprefix)
            if key not in found:
                whole(self)
                found[key] = (self.ttype2class, self.class2style)
            self.ttype2class, self.class2style = found[key]

        return create

    _replace(HtmlFormatter, "_create_stylesheet", make)


# --------------------------------------------------------------------------- parsers


class _Parsers:
    """The module ``markdown`` as mkdocs uses it, except that pages of one build share a parser, reset in between."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Any, markdown.Markdown]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(markdown, name)

    def Markdown(self, extensions: Any, extension_configs: Any) -> markdown.Markdown:
        known = self.made.get(id(extensions))
        if known is None or known[0] is not extensions:
            self.made.clear()
            known = (extensions, markdown.Markdown(extensions=extensions, extension_configs=extension_configs))
            self.made[id(extensions)] = known
        return known[1].reset()


def _keep_parsers() -> None:
    """Setting up twenty extensions, twice where a page has API documentation, takes longer than some pages."""
    if getattr(pages, "markdown", None) is markdown:
        setattr(pages, "markdown", _Parsers())  # noqa: B010


# --------------------------------------------------------------------------- pictures

_PICTURE = re.compile(r"<(svg|details)\b.*?</\1>")
_READ = re.compile(r" (?:id|name|markdown)\b")
_STASHED = re.compile(r"<(svg|details) data-zoo-part=\"(\d+)\"></\1>")


def _stash_pictures() -> None:
    """Three parsers of HTML read the source of a page before Markdown does; pictures and long tables pass them unread.

    They come back after the page is made. A page that does not have each of them once is made again with them.
    """

    def make(whole: Any) -> Any:
        def render(self: Any, config: Any, files: Any) -> None:
            source, parts = self.markdown, []
            if "<svg" not in source and "<details" not in source:
                return whole(self, config, files)

            def keep(match: re.Match[str]) -> str:
                if _READ.search(match[0]):  # anchors and Markdown in it are to be seen
                    return match[0]
                parts.append(match[0])
                return f'<{match[1]} data-zoo-part="{len(parts) - 1}"></{match[1]}>'

            self.markdown = _PICTURE.sub(keep, source)
            whole(self, config, files)
            self.markdown = source
            back = [int(number) for _, number in _STASHED.findall(self.content)]
            if back == list(range(len(parts))):
                self.content = _STASHED.sub(lambda m: parts[int(m[2])], self.content)
            else:
                whole(self, config, files)
            return None

        return render

    _replace(Page, "render", make)
