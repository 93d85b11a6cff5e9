"""Build and serve the site.

mkdocs runs in a process of its own, started before anything else is loaded here: both sides have much to load.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.registry.files import checkout_root

if TYPE_CHECKING:
    from zoo.registry.lookup import Registry


def checkout() -> Path:
    """Root of the checkout; ZooError where there is none."""
    root = checkout_root()
    if root is None:
        raise ZooError("the site is built from a checkout (docs/, mkdocs.yml); this is an installed wheel")
    return root


def _environment(root: Path, **more: str) -> dict[str, str]:
    # Both banners advertise other programs on every run.
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    return {**os.environ, **quiet, "PYTHONPATH": paths, **more}


def _mkdocs(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return subprocess.run(command, env=_environment(checkout()), check=False).returncode


def build(
    strict: bool = False,
    *,
    out: Path | None = None,
    reg: Registry | Callable[[], Registry] | None = None,
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
        out, reg, docs: as in :func:`zoo.site.generate.generate`.
        offline: build the copy that opens from a file, and zip it as ``zoo-docs.zip`` beside the site.
        fresh: use nothing of an earlier build.
        quiet: print problems only.

    Returns:
        Exit status: 0, or 1 when mkdocs or the link check found a problem.
    """
    root = checkout()
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

        from zoo.site.generate import generate  # not before mkdocs is on its way

        collected = gc.isenabled()
        gc.disable()  # nothing of what is made here becomes garbage before all of it does
        try:
            report = generate(out, reg=reg, docs=docs, offline=offline, configured=lambda: tell(b"configuration\n"))
        finally:
            if collected:
                gc.enable()
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
        out: as in :func:`zoo.site.generate.generate`.
        address: where to listen; the default is reachable from this machine only.
        interval: seconds between looks at the files.

    Returns:
        Exit status of mkdocs.
    """
    import threading

    from zoo.registry.lookup import use
    from zoo.site.generate import generate

    report = generate(out)
    root, stop = checkout(), threading.Event()

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
