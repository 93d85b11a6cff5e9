"""Shorter ways through Markdown, Pygments, griffe and mkdocstrings that lead to the same page.

Each replaces one function of a library where the library is what it was written for, and leaves everything as it is otherwise.
:func:`install` may be called more than once.
"""

from __future__ import annotations

import re
from typing import Any

import markdown
from mkdocs.structure import pages
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from zoo.site.parsing import replace, shorten


def install() -> None:
    """All of them."""
    _format_signatures_here()
    _read_fewer_sources()
    shorten()
    _make_styles_once()
    _find_lexers_once()
    _keep_parsers()
    _find_files_by_name()
    _leave_what_is_clean()
    _stash_pictures()


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

    replace(GriffeLoader, "_load_submodule", make)


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

    replace(HtmlFormatter, "_create_stylesheet", make)


def _find_lexers_once() -> None:
    """Pygments reads its list of five hundred languages from the start for each block of code."""
    try:
        from pymdownx import highlight
    except ImportError:
        return
    found: dict[str, Any] = {}

    def make(whole: Any) -> Any:
        def get_lexer_by_name(alias: Any, **options: Any) -> Any:
            if alias in found:
                return found[alias](**options)
            lexer = whole(alias, **options)
            found[alias] = type(lexer)
            return lexer

        return get_lexer_by_name

    replace(highlight, "get_lexer_by_name", make)


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
        _follow_pages()


def _follow_pages() -> None:
    """The parser of docstrings, kept as well, resolves relative links from the page at hand, not from the first one."""
    try:
        from mkdocstrings import AutoDocProcessor
    except ImportError:
        return

    def make(whole: Any) -> Any:
        def process(self: Any, *arguments: Any, **more: Any) -> Any:
            if "relpath" in self.md.treeprocessors:
                outer = self.md.treeprocessors["relpath"]
                for handler in self._handlers.seen_handlers:
                    inner = getattr(handler, "_md", None)
                    if inner is not None and "relpath" in inner.treeprocessors:
                        vars(inner.treeprocessors["relpath"]).update(
                            file=outer.file, files=outer.files, links_to_anchors={}
                        )
            return whole(self, *arguments, **more)

        return process

    replace(AutoDocProcessor, "_process_block", make)


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

    replace(Page, "render", make)


# --------------------------------------------------------------------------- files and search


def _find_files_by_name() -> None:
    """For each link mkdocs makes a path object of a name that is one already."""

    def make(whole: Any) -> Any:
        def get_file_from_path(self: Any, path: str) -> Any:
            found = getattr(self, "_src_uris", {}).get(path)
            return whole(self, path) if found is None else found

        return get_file_from_path

    replace(Files, "get_file_from_path", make)


_SEARCH = re.compile(r'data-search-\w+="[^"]')


class _Expressions:
    """The module ``re`` as the theme's search uses it, without a pass over pages that hold nothing of what it takes out."""

    def __getattr__(self, name: str) -> Any:
        return getattr(re, name)

    def sub(self, pattern: Any, repl: Any, text: str) -> str:
        if pattern == r"\s?data-search-\w+=\"[^\"]+\"" and not _SEARCH.search(text):
            return text
        return re.sub(pattern, repl, text)


def _leave_what_is_clean() -> None:
    try:
        from material.plugins.search import plugin
    except ImportError:
        return
    if getattr(plugin, "re", None) is re:
        setattr(plugin, "re", _Expressions())  # noqa: B010
