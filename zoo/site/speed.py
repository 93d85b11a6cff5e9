"""MkDocs hook that only saves time: pages on all cores, less for the search's parser to read, no process a signature.

The site is the same without it (a test compares). ``zoo docs build`` names it in the configuration that it writes;
``ZOO_DOCS_PROCESSES=1`` keeps to one process.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.commands import build as mkdocs_build
from mkdocs.plugins import event_priority
from mkdocs.structure.pages import Page

from zoo.site.shortcuts import install
from zoo.site.words import read_less

_state: dict[str, Any] = {"parallel": False}
_RENDERED = ("content", "toc", "_title_from_render", "present_anchor_ids")


def on_startup(command: str, dirty: bool, **_: Any) -> None:
    """Processes only where nothing else runs beside: not under ``serve``, whose threads a fork would copy."""
    gc.disable()  # a build ends before garbage matters, and walking millions of tree nodes takes a tenth of it
    cores = int(os.environ.get("ZOO_DOCS_PROCESSES", 0)) or len(os.sched_getaffinity(0))
    _state.update(parallel=command == "build" and not dirty and hasattr(os, "fork"), workers=min(cores, 4) - 1)
    if command != "build":
        gc.enable()


def on_config(config: Any, **_: Any) -> Any:
    """Shortcuts into the plugins, each where the plugin is what it was written for."""
    install()
    search = next((p for name, p in config.plugins.items() if name.split("/")[-1] == "search"), None)
    index = getattr(search, "search_index", None)
    _state["index"] = index
    if index is not None and hasattr(index, "add_entry_from_context"):
        read_less(index)
    return config


# --------------------------------------------------------------------------- processes


class Crew:
    """Workers that take pages from the end while this process takes them from the start.

    A worker is a fork, so that it has all that was loaded. A page belongs to whoever creates its claim first; what a worker made of
    it comes back as a file, with the warnings that it logged. A worker that fails leaves its page to this process, which then
    fails as it would have done alone.
    """

    def __init__(self, names: list[str], work: Callable[[str], Any], workers: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="zoo-docs-")
        self.index = {name: i for i, name in enumerate(names)}
        self.pids: list[int] = []
        sys.stdout.flush()
        sys.stderr.flush()
        for _ in range(workers):
            pid = os.fork()
            if pid == 0:
                self._work(names, work)
            self.pids.append(pid)

    def claim(self, name: str) -> bool:
        """True when the page is the caller's to do."""
        try:
            os.close(os.open(f"{self.folder.name}/{self.index[name]}.claim", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _work(self, names: list[str], work: Callable[[str], Any]) -> None:
        records: list[tuple[str, int, str]] = []
        handler = logging.Handler()
        setattr(handler, "emit", lambda r: records.append((r.name, r.levelno, r.getMessage())))  # noqa: B010
        for name, logger in logging.root.manager.loggerDict.items():
            if isinstance(logger, logging.Logger) and logger.handlers:
                logger.handlers = [handler] if name == "mkdocs" else []
        logging.root.handlers = []
        for name in reversed(names):
            if not self.claim(name):
                break
            records.clear()
            try:
                result = pickle.dumps((work(name), list(records)))
            except BaseException:  # the parent does it again and shows what happened
                result = b""
            path = Path(self.folder.name, f"{self.index[name]}.part")
            path.write_bytes(result)
            path.rename(path.with_suffix(".done"))
        os._exit(0)

    def result(self, name: str) -> Any | None:
        """What a worker made of the page, waiting for it; None when the worker failed."""
        path = Path(self.folder.name, f"{self.index[name]}.done")
        while not path.exists():
            if not any(_alive(pid) for pid in self.pids) and not path.exists():
                return None
            time.sleep(0.002)
        data = path.read_bytes()
        if not data:
            return None
        made, records = pickle.loads(data)  # written by our own fork a moment ago
        for logger, level, message in records:
            logging.getLogger(logger).log(level, message)
        return made

    def close(self) -> None:
        for pid in self.pids:
            if _alive(pid):
                os.waitpid(pid, 0)
        self.folder.cleanup()


def _alive(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


@event_priority(-100)
def on_nav(nav: Any, config: Any, files: Any, **_: Any) -> Any:
    """From here on Markdown becomes HTML: share that out."""
    if not _state["parallel"] or _state["workers"] < 1:
        return nav
    pages = {f.src_uri: f.page for f in files.documentation_pages() if f.page is not None}
    autorefs = config.plugins.get("autorefs")
    _load_once(config)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def work(name: str) -> Any:
        page = pages[name]
        config._current_page = page
        calls.clear()
        if autorefs is not None:
            register = type(autorefs).register_anchor

            def noted(owner: Any, *args: Any, **more: Any) -> None:
                calls.append((args, more))
                register(autorefs, owner, *args, **more)

            autorefs.register_anchor = noted
        page.read_source(config)
        page.markdown = config.plugins.on_page_markdown(page.markdown, page=page, config=config, files=files)
        render(page, config, files)
        links = {f.src_uri: anchors for f, anchors in (page.links_to_anchors or {}).items()}
        return {k: getattr(page, k) for k in _RENDERED}, links, list(calls)

    render = Page.render
    crew = Crew(list(pages), work, _state["workers"])

    def shared(page: Any, config: Any, files: Any) -> None:
        name = page.file.src_uri
        made = None if name not in crew.index or crew.claim(name) else crew.result(name)
        if made is None:
            render(page, config, files)
            return
        values, links, noted = made
        for key, value in values.items():
            setattr(page, key, value)
        page.links_to_anchors = {files.get_file_from_path(k): v for k, v in links.items()}
        for args, more in noted:
            autorefs.register_anchor(page, *args, **more)

    setattr(Page, "render", shared)  # noqa: B010
    _state.update(crew=crew, render=render)
    return nav


def _load_once(config: Any) -> None:
    """Sources of the package are read before the fork, not once in each process."""
    plugin = config.plugins.get("mkdocstrings")
    try:
        handler = plugin.get_handler("python")
        handler.collect("zoo.errors", handler.get_options({}))
    except Exception as error:  # a shortcut only: each process reads them itself then
        logging.getLogger("mkdocs.zoo").debug("not read ahead: %s", error)


@event_priority(-100)
def on_env(env: Any, config: Any, files: Any, **_: Any) -> Any:
    """From here on pages are put into the theme's templates and written: share that out, too."""
    if (crew := _state.pop("crew", None)) is None:
        return env
    crew.close()
    setattr(Page, "render", _state["render"])  # noqa: B010
    whole = mkdocs_build._build_page
    index = _state["index"]
    entries: list[Any] = index.entries if index is not None else []
    settled: dict[str, Any] = {}

    def start(arguments: tuple[Any, ...], more: dict[str, Any]) -> Crew:
        pages = {f.src_uri: f.page for f in arguments[2] if f.page is not None}

        def work(name: str) -> Any:
            before = len(entries)
            whole(pages[name], *arguments[1:], **more)
            return entries[before:]

        return Crew(list(pages), work, _state["workers"])

    def shared(page: Any, *arguments: Any, **more: Any) -> None:
        if "crew" not in settled:  # only here is known what the templates are given
            settled["crew"] = start((page, *arguments), more)
        crew: Crew = settled["crew"]
        name = page.file.src_uri
        made = None if name not in crew.index or crew.claim(name) else crew.result(name)
        if made is None:
            whole(page, *arguments, **more)
        else:
            entries.extend(made)

    mkdocs_build._build_page = shared
    _state.update(built=settled, build_page=whole)
    return env


@event_priority(100)
def on_post_build(**_: Any) -> None:
    """Back to what was there: a process may build more than one site."""
    if (settled := _state.pop("built", None)) is not None:
        if "crew" in settled:
            settled["crew"].close()
        mkdocs_build._build_page = _state["build_page"]
    gc.enable()
