"""Run mkdocs in a process of its own, started by ``zoo docs build`` before there is anything to build.

Importing mkdocs, its theme and plugins takes as long as writing the sources, so both happen at once: a line on standard input says
that the configuration is there, another one (read by :mod:`zoo.site.speed`) that all sources are. Afterwards every link of the site
is checked, with what is known already of the pages that were just made.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from zoo.site.links import Facts, check

#: Of each page made or found unchanged, path below the site -> links and anchors; filled by the hook.
facts: dict[str, Facts] = {}
#: Forks that still write something.
_busy: list[int] = []
#: What a build will import sooner or later.
_MODULES = (
    "mkdocs.commands.build", "mkdocs.config.defaults", "material.plugins.search.plugin", "mkdocstrings", "mkdocstrings_handlers.python",
    "pymdownx.superfences", "pymdownx.arithmatex", "pymdownx.tabbed", "pymdownx.inlinehilite", "pymdownx.details", "pygments.lexers.python",
    "markdown.extensions.md_in_html", "markdown.extensions.toc", "markdown.extensions.footnotes", "zoo.site.guard", "zoo.site.cache",
    "zoo.site.crew", "zoo.site.keep", "zoo.site.words", "babel.support",
)  # fmt: skip


def _load() -> None:
    """Import what a build needs, while the sources are being written.

    mkdocstrings checks its options with pydantic where that is installed, and takes longer to get ready for it than for all pages'
    options together. It works without, as it documents; that the options of ``mkdocs.yml`` are valid is a test's to say.
    """
    blocked = "pydantic" not in sys.modules
    if blocked:
        sys.modules["pydantic"] = None  # type: ignore[assignment]
    try:
        for name in _MODULES:
            try:
                importlib.import_module(name)
            except ImportError:  # whoever needs it will say so
                continue
    finally:
        if blocked:
            del sys.modules["pydantic"]


def meanwhile(work: Callable[[], None]) -> None:
    """Do it in a fork, while the links are being checked."""
    pid = os.fork()
    if pid:
        _busy.append(pid)
        return
    try:
        work()
    except OSError as error:  # the next build makes more pages, that is all
        print(f"zoo docs: not kept for the next build: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(0)


def _wait() -> None:
    while _busy:
        os.waitpid(_busy.pop(), 0)


def main(config: str, site: str, options: list[str]) -> int:
    """Build what ``config`` describes, then check the links of ``site``.

    Args:
        config: configuration for mkdocs.
        site: the folder that it writes.
        options: further arguments of ``mkdocs build``.

    Returns:
        Exit status: 0, or 1 when mkdocs or the link check found a problem.
    """
    gc.disable()  # this process ends before garbage matters
    # Both banners advertise other programs on every run.
    os.environ |= {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    if os.environ.get("ZOO_DOCS_WAIT"):
        _load()
        if not sys.stdin.readline():
            return 1
    from mkdocs.__main__ import cli

    try:
        cli(["build", "-f", config, *options], standalone_mode=True)
    except SystemExit as end:
        if end.code:
            _wait()
            return end.code if isinstance(end.code, int) else 1
    problems = check(Path(site), facts)
    _wait()
    for problem in problems[:50]:
        print(f"zoo docs: {problem}", file=sys.stderr)
    if problems:
        print(f"zoo docs: {len(problems)} bad links", file=sys.stderr)
    return 1 if problems else 0
