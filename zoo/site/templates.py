"""Templates compiled once for all processes of a build, by a process that has nothing else to do."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jinja2

_NAMED = re.compile(r"""\{%-?\s*(?:extends|include|import|from)\s+["']([^"']+)["']""")
STARTS = ("main.html", "404.html")
#: Parts that others name and this site does not ask for; a build that does compiles them then.
_SELDOM = re.compile(
    r"partials/(alternate|consent|progress|social)\.|partials/javascripts/(announce|consent|outdated)\.|\.icons/"
)


def closure(env: Any, start: str) -> list[str]:
    """Templates that one leads to, itself included."""
    found, rest = [], [start]
    while rest:
        name = rest.pop()
        try:
            source, _, _ = env.loader.get_source(env, name)
        except jinja2.TemplateNotFound:
            continue
        found.append(name)
        names = [n for n in _NAMED.findall(source) if not _SELDOM.search(n)]
        rest += [n for n in names if n not in found and n not in rest]
    return found


def listed(folders: list[str]) -> list[str]:
    """Files of a theme without the hidden ones, of which mkdocs takes none: icons by the ten thousand."""
    found = set()
    for root in folders:
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not name.startswith(".")]
            base = Path(folder).relative_to(root).as_posix()
            found |= {file if base == "." else f"{base}/{file}" for file in files}
    return sorted(found)


def quicken(env: jinja2.Environment) -> None:
    """Find templates and attributes as jinja2 does, with less ado where a name was found before, and where there is no attribute.

    Templates of a theme ask many times a page for what is seldom there, like the icon of an entry: jinja2 lets both ways to get it
    fail, by an exception each.
    """
    whole, named, nothing = env.getattr, env.get_template, object()
    known: dict[str, jinja2.Template] = {}

    def get(obj: Any, attribute: str) -> Any:
        found = getattr(obj, attribute, nothing)
        if found is not nothing:
            return found
        kind = type(obj)
        if kind is dict:
            return obj[attribute] if attribute in obj else env.undefined(obj=obj, name=attribute)
        if hasattr(kind, "__getitem__") or isinstance(obj, type):
            return whole(obj, attribute)
        return env.undefined(obj=obj, name=attribute)

    def get_template(name: Any, parent: str | None = None, globals: Any = None) -> jinja2.Template:
        if globals is not None or type(name) is not str:
            return named(name, parent, globals)
        found = known.get(name)
        if found is None:
            found = known[name] = named(name, parent, globals)
        return found

    setattr(env, "getattr", get)  # noqa: B010
    if not env.auto_reload and type(env).join_path is jinja2.Environment.join_path:
        setattr(env, "get_template", get_template)  # noqa: B010


class Templates:
    """The theme's environment, made once, and compiled templates of theme and API documentation in one folder."""

    def __init__(self, config: Any, kept: Path | None = None) -> None:
        """``kept`` is a folder that stays for later builds; jinja2 compiles again what has changed."""
        self.kept, self.pid = kept, 0
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
        self.folder = str(kept or tempfile.mkdtemp(prefix="zoo-templates-"))
        self.env = env = config.theme.get_env()
        env.loader.list_templates = lambda: listed(env.loader.searchpath)
        env.bytecode_cache = jinja2.FileSystemBytecodeCache(self.folder)
        # mkdocs and the search make others, whose templates they would compile again
        config.theme.get_env = lambda: env

    def keep_documentation(self, config: Any) -> None:
        """Templates of the API documentation go to the same folder, once its plugin is ready."""
        try:
            handler = config.plugins.get("mkdocstrings").get_handler("python")
            handler.env.bytecode_cache = self.env.bytecode_cache
            handler.env.auto_reload = False
            quicken(handler.env)
        except Exception as error:  # a shortcut only
            logging.getLogger("mkdocs.zoo").debug("templates of the API: %s", error)

    def compile_elsewhere(self) -> None:
        """Those of pages, in a fork, while this process does something else. Compiling an API page needs its plugin's filters."""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for start in STARTS:
                    for name in closure(self.env, start):
                        self.env.get_template(name)
            except jinja2.TemplateError:  # whoever renders it will say so
                pass
            finally:
                os._exit(0)

    def close(self) -> None:
        """After the build."""
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = 0
        if self.kept is None:
            shutil.rmtree(self.folder, ignore_errors=True)
