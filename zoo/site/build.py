"""Generate the site's sources and build it.

``generate`` needs neither mkdocs nor torch: it writes Markdown and data. ``build`` runs mkdocs on them and checks every link.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import ZooError
from zoo.registry.files import checkout_root
from zoo.registry.lookup import Registry, registry, use
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


def _root() -> Path:
    root = checkout_root()
    if root is None:
        raise ZooError("the site is built from a checkout (docs/, mkdocs.yml); this is an installed wheel")
    return root


def generate(
    out: Path | None = None,
    *,
    reg: Registry | None = None,
    docs: Path | None = None,
    offline: bool = False,
    configured: Callable[[], None] = lambda: None,
) -> Report:
    """Write the sources of the site: hand-written pages copied, all others made from the registry.

    Only files whose content changed are written, and what does not belong is removed, so that two runs give the same tree and the
    second writes nothing.

    Args:
        out: folder of the sources (default ``build/docs`` of the checkout); the mkdocs configuration goes beside it.
        reg: registry to show (default: the one in use).
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
    root = _root()
    out = (out or root / "build" / "docs").resolve()
    docs = docs or root / "docs"
    site = Site(reg or registry(), docs, root / "benchmarks")
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
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(out).as_posix() not in wanted:
            path.unlink()
            report.removed.append(path.relative_to(out).as_posix())
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
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


def _environment(root: Path, **more: str) -> dict[str, str]:
    # Both banners advertise other programs on every run.
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    return {**os.environ, **quiet, "PYTHONPATH": paths, **more}


def _mkdocs(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return subprocess.run(command, env=_environment(_root()), check=False).returncode


def build(
    strict: bool = False,
    *,
    out: Path | None = None,
    reg: Registry | None = None,
    docs: Path | None = None,
    offline: bool = False,
    fresh: bool = False,
    quiet: bool = False,
) -> int:
    """Generate and build the site, then check every internal link, anchor and loaded resource.

    mkdocs gets ready in a process of its own while the sources are being written. What an earlier build made of a page is used
    again where nothing that goes into it has changed (:mod:`zoo.site.cache`); the site is the same as that of a fresh build.

    Args:
        strict: warnings of mkdocs are errors.
        out, reg, docs: as in :func:`generate`.
        offline: build the copy that opens from a file, and zip it as ``zoo-docs.zip`` beside the site.
        fresh: use nothing of an earlier build.
        quiet: print problems only.

    Returns:
        Exit status: 0, or 1 when mkdocs or the link check found a problem.
    """
    root = _root()
    folder = out.parent.resolve() if out else root / "build"
    name = "site-offline" if offline else "site"
    cache, built = folder / "cache" / name, folder / name
    if fresh:
        shutil.rmtree(cache, ignore_errors=True)
    config = folder / ("mkdocs.offline.gen.yml" if offline else "mkdocs.gen.yml")
    options = [flag for flag, on in (("--strict", strict), ("--quiet", quiet)) if on]
    command = [sys.executable, "-m", "zoo.site", str(config), str(built), *options]
    environment = _environment(root, ZOO_DOCS_WAIT="1", ZOO_DOCS_CACHE=str(cache))
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as mkdocs:
        pipe = mkdocs.stdin
        assert pipe is not None

        def tell(what: bytes) -> None:
            with suppress(BrokenPipeError):  # it has failed already; its exit status says so
                pipe.write(what)
                pipe.flush()

        report = generate(out, reg=reg, docs=docs, offline=offline, configured=lambda: tell(b"configuration\n"))
        for problem in report.problems:
            print(f"zoo docs: {problem}", file=sys.stderr)
        if not quiet:
            print(
                f"{report.pages} pages, {len(report.written)} files changed, {report.seconds:.2f} s; mkdocs next",
                flush=True,
            )
        tell(b"sources\n")
        if mkdocs.wait():
            return 1
    if offline:
        archive = shutil.make_archive(str(folder / "zoo-docs"), "zip", built.parent, built.name)
        if not quiet:
            print(f"{archive}: unpack and open site-offline/index.html")
    elif not quiet:
        print(f"{built}: every link holds")
    return 0


def serve(*, out: Path | None = None, address: str = "127.0.0.1:8000", interval: float = 1.0) -> int:
    """Serve the site and generate it again whenever registry, catalog, evidence or docs change.

    Args:
        out: as in :func:`generate`.
        address: where to listen; the default is reachable from this machine only.
        interval: seconds between looks at the files.

    Returns:
        Exit status of mkdocs.
    """
    report = generate(out)
    root, stop = _root(), threading.Event()

    def stamp() -> dict[str, int]:
        watched = [
            root / "registry.yaml",
            root / "registry.lock.json",
            *(root / "catalog").rglob("*"),
            *(root / "docs").rglob("*"),
            *(root / "benchmarks" / "results").glob("*.json"),
        ]
        return {str(p): p.stat().st_mtime_ns for p in watched if p.is_file()}

    def watch() -> None:
        seen = stamp()
        while not stop.wait(interval):
            try:
                now = stamp()
                if now == seen:
                    continue
                seen = now
                use(None)
                again = generate(out)
                print(f"zoo docs: {len(again.written)} files changed")
            except (ZooError, OSError) as error:  # half-saved files are normal while editing
                print(f"zoo docs: {error}", file=sys.stderr)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return _mkdocs(["serve", "-f", str(report.config), "-a", address])
    except KeyboardInterrupt:
        return 0
    finally:
        stop.set()
