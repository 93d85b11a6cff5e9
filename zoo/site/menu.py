"""The theme's menu, of which most is the same on many pages: each entry is drawn once for all pages of a folder.

An entry that does not lead to the page at hand says nothing about that page, except by its relative link, and seen from two pages of
one folder that is the same link. The theme draws it anew on every page, so that the menus of a section cost the square of its pages.
The contents of a page, which it draws twice, are drawn once as well.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import TemplateNotFound
from jinja2.runtime import Macro

TEMPLATE = "partials/nav-item.html"
CONTENTS = "partials/toc.html"


def _plain(url: str) -> str:
    return posixpath.normpath(f"/{url}")[1:]


class Views:
    """Which pages of a navigation see all entries but their own by the same relative links."""

    def __init__(self, nav: Any) -> None:
        self.inside: Counter[str] = Counter()
        self.at: Counter[str] = Counter()
        self._count(nav.items)

    def _count(self, items: Any) -> None:
        for item in items or ():
            self._count(item.children)
            if url := getattr(item, "url", None):  # a section has none
                parts = _plain(url).split("/")
                self.inside.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
                self.at["/".join(parts)] += 1

    def of(self, url: str) -> tuple[str, bool]:
        """Equal for pages that share their view.

        Links of a page ``a/b/`` start from there, those of ``a/b.html`` from ``a``. What leads out of ``a/b`` begins with ``../``
        whatever the name of ``b``; so an address that no other entry begins with, as others do with that of an index, is like its
        neighbours.
        """
        folder, _, name = url.rpartition("/")
        start = _plain(folder if "." in name else url)
        if start and "." not in name and self.inside[start] == min(self.at[start], 1):
            return posixpath.dirname(start), True
        return start, False


class Menu:
    """Entries drawn so far, for one environment of the theme."""

    def __init__(self, env: Any) -> None:
        self.drawn: dict[Any, str] = {}
        self.nav: Any = None
        self.page: Any = None
        self.views: Views
        self.view: tuple[str, bool]
        try:
            template, contents = env.get_template(TEMPLATE), env.get_template(CONTENTS)
        except TemplateNotFound:
            return
        contents.root_render_func = self._once(contents.root_render_func)
        whole = template.root_render_func
        if "Macro" in whole.__globals__:
            whole.__globals__["Macro"] = self._macro
            template.root_render_func = lambda context: self._begin(whole, context)

    def _begin(self, whole: Callable[[Any], Iterator[str]], context: Any) -> Iterator[str]:
        """Once a page: the theme's macros are made."""
        nav, self.page = context.get("nav"), context.get("page")
        if nav is not self.nav:
            self.drawn.clear()
            self.nav, self.views = nav, Views(nav)
        if self.page is not None:
            self.view = self.views.of(self.page.url)
        return whole(context)

    def _once(self, whole: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
        """The contents of a page stand beside it, and a second time in the menu."""
        last: list[Any] = [None, None, []]

        def render(context: Any) -> Iterator[str]:
            page, words = context.get("page"), context.get("lang")
            if page is None or last[0] is not page or last[1] is not words:
                last[:] = page, words, list(whole(context))
            yield from last[2]

        return render

    def _macro(self, env: Any, function: Callable[..., str], name: str, arguments: list[str], *more: Any) -> Macro:
        if name != "render" or tuple(arguments) != ("nav_item", "path", "level", "parent"):
            return Macro(env, function, name, arguments, *more)

        def render(item: Any, path: Any, level: Any, parent: Any) -> str:
            if self.page is None or item.active or hasattr(item, "pages"):
                return function(item, path, level, parent)
            key = (self.view, id(item), path, level, getattr(parent, "active", None))
            text = self.drawn.get(key)
            if text is None:
                text = self.drawn[key] = function(item, path, level, parent)
            return text

        return Macro(env, render, name, arguments, *more)
