"""What an earlier build made of each page, used again where everything that went into it is the same.

Two steps make a page. Its Markdown becomes HTML: that depends on its source, on the programs and settings at work, on which files
there are to link to, and, with API documentation, on the sources of the package. The HTML goes into the theme's template: that
depends on the HTML, again on programs and settings, and on the whole navigation. Each record holds the digest of those inputs. A
page that logged a warning is never kept, so that it warns every time. Records are lines of JSON in one file below ``build/cache``:
making a file costs more than writing to it. Deleting that folder makes the next build a cold one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.site.shortcuts import UNDOCUMENTED

#: Changes with the shape of records.
FORMAT = 2
FILE = "pages.jsonl"
#: Programs that have a say in what a page looks like.
PROGRAMS = (
    "mkdocs", "mkdocs-material", "Markdown", "pymdown-extensions", "Pygments", "mkdocstrings", "mkdocstrings-python", "mkdocs-autorefs",
    "griffelib", "griffe", "Jinja2", "MarkupSafe", "PyYAML",
)  # fmt: skip
#: Front matter that only the page itself reads; all other enters the digest of the navigation.
OWN_META = frozenset({"title", "description", "search", "hide"})
PACKAGE = Path(__file__).resolve().parents[1]


def digest(*parts: Any) -> str:
    """Of text, bytes and whatever JSON takes."""
    found = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = (
            part
            if isinstance(part, bytes)
            else (part if isinstance(part, str) else json.dumps(part, default=str)).encode()
        )
        found.update(b"%d:" % len(data))
        found.update(data)
    return found.hexdigest()


def _files(paths: Iterable[Path], root: Path) -> list[Any]:
    return [part for p in sorted(paths) if p.is_file() for part in (p.relative_to(root).as_posix(), p.read_bytes())]


def programs(root: Path, settings: Any) -> str:
    """Everything that every page depends on: versions, settings, templates, the code of this package."""
    versions = {}
    for name in PROGRAMS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    code = [p for p in (PACKAGE / "site").rglob("*") if p.suffix != ".pyc"]
    return digest(
        FORMAT, sys.version, versions, settings, (PACKAGE / "__init__.py").read_bytes(), *_files(code, PACKAGE),
        *_files([root / "mkdocs.yml", root / "mkdocs.offline.yml", *(root / "overrides").rglob("*")], root),
    )  # fmt: skip


def sources(root: Path) -> str:
    """What documentation of the API is made from."""
    modules = [p for p in (root / "zoo").rglob("*.py") if p.relative_to(root).parts[1] not in UNDOCUMENTED]
    return digest(*_files(modules, root))


def navigation(nav: Any) -> str:
    """Titles and addresses of everything in the navigation, in order: what menus, paths and footers of any page show."""

    def entry(item: Any) -> Any:
        if item.is_section:
            return [item.title, [entry(child) for child in item.children]]
        if item.is_page:
            meta = {k: v for k, v in item.meta.items() if k not in OWN_META}
            return [str(item.title), item.url, meta]
        return [str(item.title), item.url]

    return digest([entry(item) for item in nav.items])


class Cache:
    """Records of one folder. Without a folder nothing is found and nothing kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.found: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, bytes] = {}
        self.programs = self.sources = self.files = self.navigation = ""

    def open(self, root: Path, settings: Any) -> None:
        """Read what an earlier build left."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.programs, self.sources = programs(root, settings), sources(root)
        try:
            lines = (self.folder / FILE).read_bytes().split(b"\n")
        except OSError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                self.found[record["page"]], self._lines[record["page"]] = record, line
            except (ValueError, KeyError, TypeError):  # the end of a file, or damage
                continue

    def render_key(self, name: str, source: bytes) -> str:
        """Digest of what goes into a page's HTML."""
        return digest(self.programs, self.files, name, source, self.sources if b":::" in source else "")

    def page_key(self, page: Any) -> str:
        """Digest of what goes into a page's file, its HTML included."""
        return digest(
            self.programs,
            self.navigation,
            page.file.src_uri,
            page.url,
            page.content,
            toc(page),
            page.meta,
            str(page.title),
        )

    def rendered(self, name: str, key: str) -> dict[str, Any] | None:
        record = self.found.get(name)
        return record if record is not None and record["render"] == key else None

    def built_ones(self, keys: dict[str, str], paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
        """Records of pages whose files still are what the records say."""
        found = {}
        for name, key in keys.items():
            record = self.found.get(name)
            if record is not None and record.get("built") == key:
                try:
                    if digest(paths[name].read_bytes()) == record["file"]:
                        found[name] = record
                except OSError:
                    continue
        return found

    def build(self, name: str, made: dict[str, Any]) -> None:
        """Complete the record of a page, or drop it when something was to be warned of."""
        record = self.kept.get(name)
        if made["warned"]:
            self.kept.pop(name, None)
        elif record is not None and record.get("built") != made["built"]:
            self.kept[name] = record | {part: made[part] for part in ("built", "file", "entries", "facts")}

    def close(self) -> None:
        """Write what changed, drop what is no page any more."""
        if self.folder is None:
            return
        same = {name for name, record in self.kept.items() if record is self.found.get(name)}
        if len(same) == len(self.kept) == len(self.found):
            return
        lines = [self._lines[n] if n in same else json.dumps(record).encode() for n, record in self.kept.items()]
        path = self.folder / FILE
        part = path.with_suffix(".part")
        part.write_bytes(b"\n".join(lines))
        os.replace(part, path)


def toc(page: Any) -> list[Any]:
    """Table of contents as lists."""

    def entry(item: Any) -> list[Any]:
        return [str(item.title), item.id, item.level, [entry(child) for child in item.children]]

    return [entry(item) for item in page.toc]


def toc_from(entries: list[Any]) -> Any:
    """The other way."""
    from mkdocs.structure.toc import AnchorLink, TableOfContents

    def link(entry: list[Any]) -> AnchorLink:
        made = AnchorLink(*entry[:3])
        made.children = [link(child) for child in entry[3]]
        return made

    found = [link(entry) for entry in entries]
    if found:
        found[0].active = True  # type: ignore[attr-defined]
    return TableOfContents(found)
