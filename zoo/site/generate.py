"""Write the site's sources: Markdown, data and the configuration for mkdocs. Neither mkdocs nor torch is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.registry.lookup import Registry, registry
from zoo.site.build import checkout
from zoo.site.context import Site
from zoo.site.pages import nav, pages

#: Parts of docs/ that feed the generator instead of the reader.
_NOT_COPIED = ("snippets",)


@dataclass
class Report:
    """What :func:`generate` did.

    Attributes:
        pages: generated Markdown pages.
        files: all files of the sources, hand-written ones and data included.
        written: files that changed.
        removed: files that no longer belong there.
        problems: what was left out and why.
        config: the mkdocs configuration that was written beside ``out``.
        seconds: duration.
    """

    out: Path
    config: Path
    pages: int = 0
    files: int = 0
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def generate(
    out: Path | None = None,
    *,
    reg: Registry | Callable[[], Registry] | None = None,
    docs: Path | None = None,
    offline: bool = False,
    configured: Callable[[], None] = lambda: None,
) -> Report:
    """Write the sources of the site: hand-written pages copied, all others made from the registry.

    Only files whose content changed are written, and what does not belong is removed, so that two runs give the same tree and the
    second writes nothing.

    Args:
        out: folder of the sources (default ``build/docs`` of the checkout); the mkdocs configuration goes beside it.
        reg: registry to show, or what makes it (default: the one in use).
        docs: folder of hand-written pages and committed data (default ``docs`` of the checkout).
        offline: write the configuration of the downloadable copy.
        configured: called when the configuration is written, before the pages are.

    Returns:
        What was written; see :class:`Report`.

    Raises:
        ZooError: not in a checkout.
        RegistryError: registry or catalog are not valid.
    """
    start = time.perf_counter()
    root = checkout()
    out = (out or root / "build" / "docs").resolve()
    docs = docs or root / "docs"
    shown = reg if isinstance(reg, Registry) else (reg or registry)()
    site = Site(shown, docs, root / "benchmarks")
    copied = {
        path.relative_to(docs).as_posix(): path
        for path in sorted(docs.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    copied = {name: path for name, path in copied.items() if name.split("/")[0] not in _NOT_COPIED}
    report = Report(out=out, config=out.parent / ("mkdocs.offline.gen.yml" if offline else "mkdocs.gen.yml"))
    out.mkdir(parents=True, exist_ok=True)
    _write(report.config, _config(root, out, nav(site, set(copied)), offline).encode())
    configured()
    texts = pages(site)
    wanted: dict[str, bytes] = {path: text.encode() for path, text in texts.items()}
    for relative, path in copied.items():
        if relative not in wanted:
            wanted[relative] = path.read_bytes()
    report.pages = sum(1 for path in texts if path.endswith(".md"))
    report.files = len(wanted)
    for relative, content in wanted.items():
        if _write(out / relative, content):
            report.written.append(relative)
    for folder, _, names in sorted(os.walk(out), reverse=True):  # what lies in a folder comes before it
        base = Path(folder).relative_to(out).as_posix().removeprefix(".")
        for name in names:
            relative = f"{base}/{name}".lstrip("/")
            if relative not in wanted:
                os.unlink(out / relative)
                report.removed.append(relative)
        if base and not os.listdir(folder):
            os.rmdir(folder)
    report.problems = site.problems
    report.seconds = time.perf_counter() - start
    return report


def _write(path: Path, content: bytes) -> bool:
    try:
        if path.read_bytes() == content:
            return False
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def _config(root: Path, out: Path, entries: list[Any], offline: bool) -> str:
    """Configuration with absolute paths, so that it may lie anywhere."""
    settings: dict[str, Any] = {
        "INHERIT": str(root / ("mkdocs.offline.yml" if offline else "mkdocs.yml")),
        "docs_dir": str(out),
        "site_dir": str(out.parent / ("site-offline" if offline else "site")),
        "theme": {"custom_dir": str(root / "overrides")},
        "hooks": [str(root / "zoo" / "site" / "speed.py")],
        "plugins": {"mkdocstrings": {"handlers": {"python": {"paths": [str(root)]}}}},
        "nav": entries,
    }
    return "# Written by `zoo docs build`; change mkdocs.yml instead.\n" + yaml.safe_dump(
        settings, sort_keys=False, width=1000
    )
