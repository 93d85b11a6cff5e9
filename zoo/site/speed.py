"""MkDocs hook that only saves time: pages on all cores, pages of an earlier build, less to parse, no process a signature.

The site is the same without it (tests compare). ``zoo docs build`` names it in the configuration that it writes, and tells it by the
environment where records of earlier builds are (``ZOO_DOCS_CACHE``) and that sources are still being written (``ZOO_DOCS_WAIT``).
``ZOO_DOCS_PROCESSES=1`` keeps to one process.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mkdocs.commands import build as mkdocs_build
from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.pages import Page

from zoo.site import links, run
from zoo.site.cache import Cache, digest, navigation, toc, toc_from
from zoo.site.crew import Crew
from zoo.site.keep import Keeper
from zoo.site.menu import Menu
from zoo.site.rehearsal import rehearse
from zoo.site.shortcuts import install
from zoo.site.templates import Templates
from zoo.site.words import read_less


class State:
    """One build."""

    def __init__(self) -> None:
        self.whole = False
        self.collected = gc.isenabled()
        self.workers = 0
        self.ready = False
        self.cache = Cache(None)
        self.templates: Templates | None = None
        self.keeper: Keeper | None = None
        self.index: Any = None
        self.render: Any = None
        self.build_page: Any = None


_state = State()


def on_startup(command: str, dirty: bool, **_: Any) -> None:
    """Processes only where nothing else runs beside: not under ``serve``, whose threads a fork would copy."""
    global _state
    _state = State()
    _state.whole = command == "build" and not dirty
    if _state.whole and sys.platform == "linux":  # elsewhere a fork is either missing or not safe
        cores = int(os.environ.get("ZOO_DOCS_PROCESSES", 0)) or len(os.sched_getaffinity(0))
        _state.workers = min(cores, 4) - 1
    if command == "build":
        gc.disable()  # a build ends before garbage matters, and walking millions of tree nodes takes a tenth of it


@event_priority(100)
def _before_plugins(config: Any, **_: Any) -> Any:
    """One environment of the theme: the search makes three more, for three words."""
    folder = os.environ.get("ZOO_DOCS_CACHE")
    _state.templates = Templates(config, Path(folder, "templates") if folder else None)
    return config


def _after_plugins(config: Any, **_: Any) -> Any:
    """Shortcuts into the plugins, each where the plugin is what it was written for."""
    install()
    search = next((p for name, p in config.plugins.items() if name.split("/")[-1] == "search"), None)
    _state.index = getattr(search, "search_index", None)
    if _state.index is not None and hasattr(_state.index, "add_entry_from_context"):
        read_less(_state.index)
    assert _state.templates is not None
    _state.templates.keep_documentation(config)
    return config


on_config = CombinedEvent(_before_plugins, _after_plugins)


def on_pre_build(config: Any, **_: Any) -> None:
    """What does not depend on the sources, while they are being written; then wait for them."""
    folder = os.environ.get("ZOO_DOCS_CACHE")
    if _state.whole and folder:
        _state.cache = Cache(Path(folder))
        root = Path(config.theme.custom_dir).parent
        settings = [config.site_name, config.site_url, config.use_directory_urls, config.extra, config.plugins.keys()]
        _state.cache.open(root, settings)
        _state.keeper = Keeper(Path(config.site_dir))
        _state.keeper.start()
    if os.environ.get("ZOO_DOCS_WAIT"):
        if _state.workers:  # otherwise this is time that the sources need
            assert _state.templates is not None
            _state.templates.compile_elsewhere()
            _load_ahead(config)
        if not sys.stdin.readline():
            raise SystemExit(1)  # whoever writes the sources has failed, and says why


def _load_ahead(config: Any) -> None:
    """What pages need is read and set up once, not once in each process."""
    if not _state.ready:
        _state.ready = True
        rehearse(config)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Whatever mkdocs and its plugins complain about meanwhile."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    setattr(handler, "emit", lambda record: found.append(record.getMessage()))  # noqa: B010
    logger = logging.getLogger("mkdocs")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _longest_first(sizes: dict[str, int]) -> list[str]:
    """An order in which nobody is left with a long page at the end."""
    return sorted(sizes, key=lambda name: -sizes[name])


# --------------------------------------------------------------------------- Markdown becomes HTML


@event_priority(-100)
def on_nav(nav: Any, config: Any, files: Any, **_: Any) -> Any:
    """From here on Markdown becomes HTML: share that out."""
    if not _state.whole:
        return nav
    cache = _state.cache
    cache.files = digest(sorted([f.src_uri, f.url] for f in files))
    pages = {f.src_uri: f.page for f in files.documentation_pages() if f.page is not None}
    sources = {name: Path(p.file.abs_src_path).read_bytes() for name, p in pages.items()}
    keys = {name: cache.render_key(name, source) for name, source in sources.items()}
    found = {name: record for name, key in keys.items() if (record := cache.rendered(name, key)) is not None}
    autorefs = config.plugins.get("autorefs")
    register: Any = getattr(autorefs, "register_anchor", None)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    noting = False

    def noted(owner: Any, *args: Any, **more: Any) -> None:
        if noting:  # registered when it is the page's turn, wherever it was made
            calls.append((args, more))
        else:
            register(owner, *args, **more)

    if register is not None:
        autorefs.register_anchor = noted
    whole = _state.render = Page.render

    def work(name: str) -> dict[str, Any]:  # all that mkdocs does with a page, in another process
        page = pages[name]
        config._current_page = page
        page.read_source(config)
        page.markdown = config.plugins.on_page_markdown(page.markdown, page=page, config=config, files=files)
        return convert(name)

    def convert(name: str) -> dict[str, Any]:
        nonlocal noting
        page = pages[name]
        calls.clear()
        noting = True
        try:
            with _warnings() as warned:
                whole(page, config, files)
        finally:
            noting = False
        return {
            "page": name, "render": keys[name], "content": page.content, "toc": toc(page), "title": page._title_from_render,
            "anchors": sorted(page.present_anchor_ids or ()), "calls": list(calls), "warned": bool(warned),
            "links": {f.src_uri: anchors for f, anchors in (page.links_to_anchors or {}).items()},
        }  # fmt: skip

    missing = _longest_first({name: len(source) for name, source in sources.items() if name not in found})
    if len(missing) >= Crew.WORTH and _state.workers:
        _load_ahead(config)
    crew: Crew | None = None

    def shared(page: Any, config: Any, files: Any) -> None:
        nonlocal crew
        crew = crew or Crew(missing, work, _state.workers)
        name = page.file.src_uri
        if name not in keys:  # made up by a plugin
            whole(page, config, files)
            return
        made = found.get(name) or crew.get(name) or convert(name)
        page.content, page._title_from_render = made["content"], made["title"]
        page.toc, page.present_anchor_ids = toc_from(made["toc"]), set(made["anchors"])
        page.links_to_anchors = {files.get_file_from_path(k): v for k, v in made["links"].items()}
        if register is not None:
            for args, more in made["calls"]:
                register(page, *args, **more)
        if not made["warned"]:
            cache.kept[name] = made

    setattr(Page, "render", shared)  # noqa: B010
    return nav


# --------------------------------------------------------------------------- HTML becomes files


@event_priority(-100)
def on_env(env: Any, config: Any, files: Any, **_: Any) -> Any:
    """From here on pages are put into the theme's templates and written: share that out, too."""
    if _state.render is None:
        return env
    setattr(Page, "render", _state.render)  # noqa: B010
    Menu(env)
    whole = _state.build_page = mkdocs_build._build_page
    entries: list[Any] = _state.index.entries if _state.index is not None else []
    pages = {f.src_uri: f.page for f in files.documentation_pages() if f.page is not None}
    found: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    crew: Crew | None = None
    cache = _state.cache

    def shared(page: Any, *arguments: Any, **more: Any) -> None:
        nonlocal crew

        def work(name: str) -> dict[str, Any]:
            before, path = len(entries), Path(pages[name].file.abs_dest_path)
            key = keys.get(name) or (cache.folder and cache.page_key(pages[name]))
            with _warnings() as warned:
                whole(pages[name], *arguments, **more)
            data = path.read_bytes() if path.exists() else b""
            facts = {k: sorted(v) if k == "ids" else v for k, v in vars(links.facts(data.decode())).items()}
            mine = entries[before:]
            del entries[before:]
            return {
                "built": key,
                "file": digest(data),
                "entries": mine,
                "facts": facts,
                "warned": bool(warned),
            }

        if crew is None:  # only here is known what the templates are given
            if cache.folder is not None:
                cache.navigation = navigation(arguments[2])
            if cache.found:  # otherwise whoever makes a page works out its key
                keys.update({name: cache.page_key(page) for name, page in pages.items()})
                found.update(cache.built_ones(keys, {name: Path(p.file.abs_dest_path) for name, p in pages.items()}))
            left = {name: len(page.content or "") for name, page in pages.items() if name not in found}
            crew = Crew(_longest_first(left), work, _state.workers)
        name = page.file.src_uri
        made = found.get(name) or crew.get(name) or work(name)
        entries.extend(made["entries"])
        if _state.keeper is not None:
            _state.keeper.keep(page.file.abs_dest_path)
        run.facts[page.file.dest_uri] = links.Facts(**{**made["facts"], "ids": set(made["facts"]["ids"])})
        cache.build(name, made)

    mkdocs_build._build_page = shared
    return env


@event_priority(-1000)
def on_post_build(**_: Any) -> None:
    """Back to what was there: a process may build more than one site."""
    if _state.build_page is not None:
        mkdocs_build._build_page = _state.build_page
    if _state.keeper is not None:
        _state.keeper.sweep()
    if _state.templates is not None:
        _state.templates.close()
    if _state.workers and _state.cache.folder is not None:
        run.meanwhile(_state.cache.close)
    else:
        _state.cache.close()
    if _state.collected:
        gc.enable()
