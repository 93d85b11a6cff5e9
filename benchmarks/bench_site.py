"""Speed of the site: cold and incremental build, growth with generated papers, weight and readiness of a first visit.

Papers beyond those that ship are copies of them under other names, so a page is as heavy as a real one. Bounds are absolute: the
baseline of a row is the bound of the site's specification, so the target is a ratio of 1. Seconds are elapsed ones, of the program
that ``zoo docs build`` is: sources generated, site built, every link checked, start of Python included.

Cold means no file of an earlier build and no parsed registry. Modules are compiled, as they are after any installation: where the
environment forbids Python to keep compiled modules, a folder of this run has them, filled by a build before the clock runs.

A visit is ready when the page is parsed, the theme's script has run and every formula is set, at the frame that shows it. The
window has been open for two seconds by then: what a browser does to open one is no matter of the site.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from common import main, row

ROOT = Path(__file__).resolve().parents[1]
COLD_S, CHANGED_S, FIRST_LOAD_MB, INTERACTIVE_S = 6.0, 2.5, 1.5, 1.0
SIZES = (90, 300, 1000)
REPEAT = 3
WATCH = """
(() => {
  const parsed = () => performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd > 0;
  const set = () => (all => all.length > 5 && all.every(n => n.querySelector(".katex")))([...document.querySelectorAll(".arithmatex")]);
  const look = () => (parsed() && set() ? (window.zooReady = performance.now()) : requestAnimationFrame(look));
  requestAnimationFrame(look);
})()
"""
VISITED, SETTLE_MS = "normalization/group_norm/", 2000
BUILD = """
import sys
from pathlib import Path
from zoo.site.build import build
root, out = Path(sys.argv[1]), Path(sys.argv[2])

def registry():
    from zoo.registry.load import load
    from zoo.registry.lookup import Registry
    return Registry(load(root), root)

raise SystemExit(build(out=out, reg=registry, quiet=True))
"""


def copies(root: Path, count: int) -> None:
    """A registry of ``count`` papers: the shipped one, cut or repeated. Relations and models to papers that are cut go."""
    registry = yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))
    pages = sorted((ROOT / "catalog").glob("*/*.md"))
    known, kept = {page.stem for page in pages}, {page.stem for page in pages[:count]}

    def link(match: re.Match[str]) -> str:
        return match[1] if match[2] in known - kept else match[0]

    methods: dict[str, Any] = {}
    for i in range(count):
        page, round_ = pages[i % len(pages)], i // len(pages)
        suffix = f"_copy{round_}" if round_ else ""
        _, head, body = page.read_text(encoding="utf-8").split("---\n", 2)
        body = re.sub(r"\[([^\]\n]*)\]\((?:[\w./-]*/)?(\w+)\.md[^)\n]*\)", link, body)
        facts = yaml.safe_load(head)
        related = {
            r: {t: why for t, why in found.items() if t in kept} for r, found in facts.pop("relations", {}).items()
        }
        if suffix:
            facts |= {"arxiv": f"{3000 + i // 100:04d}.{i:05d}"} if "arxiv" in facts else {}
            facts.pop("aliases", None)
        else:
            facts["relations"] = {r: found for r, found in related.items() if found}
        folder = root / "catalog" / page.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{page.stem}{suffix}.md").write_text(f"---\n{yaml.safe_dump(facts)}---\n{body}", encoding="utf-8")
        if not suffix and (evidence := page.with_name(f"{page.stem}.evidence.json")).is_file():
            shutil.copy(evidence, folder)
        for method, record in registry["methods"].items():
            if record["paper"] == page.stem:
                copied = {k: v for k, v in record.items() if not (suffix and k in ("aliases", "weights"))}
                methods[method + suffix] = {**copied, "paper": page.stem + suffix}
    models = {k: v for k, v in registry["models"].items() if _stays(v, kept, set(methods))}
    text = json.dumps({"methods": methods, "models": models})  # YAML without anchors, which the registry refuses
    (root / "registry.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "registry.lock.json", root)


def _stays(model: dict[str, Any], papers: set[str], methods: set[str]) -> bool:
    swapped = {str(spec).split("(")[0].split(":")[0] for spec in model.get("swaps", {}).values()}
    return set(model.get("papers", ())) <= papers and swapped <= methods


def timed(folder: Path, check: bool = True) -> float:
    """Elapsed seconds of one build of ``folder / root`` into ``folder``."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"ZOO_CACHE": str(folder / "parsed"), "PYTHONPYCACHEPREFIX": str(folder.parent / "modules")}
    arguments = [sys.executable, "-c", BUILD, str(folder / "root"), str(folder / "docs")]
    start = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, check=False)
    if done.returncode and check:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - start


def measure(count: int, repeat: int, folder: Path) -> dict[str, float]:
    """Median seconds of cold builds and of a build after one page changed. The built site stays in ``folder``."""
    root = folder / "root"
    copies(root, count)
    cold, changed = [], []
    for _ in range(repeat):
        for name in ("docs", "site", "cache", "parsed"):
            shutil.rmtree(folder / name, ignore_errors=True)
        cold.append(timed(folder))
    page = sorted(root.glob("catalog/normalization/*.md"))[0]
    for i in range(repeat):
        page.write_text(page.read_text(encoding="utf-8") + f"\nOne more sentence, {i}.\n", encoding="utf-8")
        changed.append(timed(folder))
    return {"cold": statistics.median(cold), "changed": statistics.median(changed)}


def visit(site: Path, runs: int) -> dict[str, float] | None:
    """Bytes of a first visit and seconds until mathematics is set and a tab answers; None without a browser.

    Seconds are the page's own, from the start of its navigation. A window that has just been opened loads the browser's own
    pages for a second or more, so it is left to come to rest before the visit, and nothing listens to the requests meanwhile.
    """
    sys.path.insert(0, str(ROOT / "tests" / "site"))
    from browser import ARGUMENTS, CHROMIUM, served

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if not Path(CHROMIUM).exists():
        return None
    weights, seconds = [], []
    with sync_playwright() as playwright, served(site) as base:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for timed_one in [True] * runs + [False]:  # a new context has an empty cache
            made = browser.new_context(viewport={"width": 1280, "height": 900})
            page = made.new_page()
            sizes: list[int] = []
            page.add_init_script(WATCH)
            page.wait_for_timeout(SETTLE_MS)

            def weigh(response: Any, sizes: list[int] = sizes) -> None:
                sizes.append(len(response.body()) if response.ok else 0)

            if not timed_one:
                page.on("response", weigh)
            page.goto(f"{base}{VISITED}", wait_until="domcontentloaded")
            page.wait_for_function("window.zooReady")
            page.wait_for_load_state("networkidle")
            if timed_one:
                seconds.append(page.evaluate("window.zooReady") / 1e3)
            else:
                weights.append(sum(sizes) / 1e6)
            made.close()
        browser.close()
    return {"seconds": statistics.median(seconds), "megabytes": max(weights)}


def run() -> list[dict[str, Any]]:
    """All rows. Larger sizes are built once: the largest takes about a minute."""
    rows: list[dict[str, Any]] = []
    cold: dict[int, float] = {}
    seen = None

    def bound(name: str, what: str, value: float, limit: float, runs: int, unit: str) -> None:
        rows.append(row(name, what, value, limit, 1.0, runs, f"bound of {limit:g} {unit}", unit))

    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "first"
        copies(first / "root", 8)
        timed(
            first, check=False
        )  # modules are compiled from here on; guides link to papers that are not among the eight
        for count in SIZES:
            repeat, folder = REPEAT if count == SIZES[0] else 1, Path(name) / str(count)
            found = measure(count, repeat, folder)
            cold[count] = found["cold"]
            print(json.dumps({"papers": count, **{k: round(v, 2) for k, v in found.items()}}), file=sys.stderr)
            if count == SIZES[0]:
                bound(
                    f"{count} papers, cold",
                    "sources generated, site built, links checked",
                    found["cold"],
                    COLD_S,
                    repeat,
                    "s",
                )
                bound(
                    "one page changed",
                    "sources generated, that page built, links checked",
                    found["changed"],
                    CHANGED_S,
                    repeat,
                    "s",
                )
                seen = visit(folder / "site", 5)
    for small, large in pairwise(SIZES):
        linear, against = cold[small] * large / small, f"{large / small:.1f} x the build of {small}"
        rows.append(row(f"{large} papers, cold", "linear growth", cold[large], linear, 1.2, 1, against, "s"))
    if seen:
        bound(
            "first visit, weight",
            "a paper's page, empty cache, not compressed",
            seen["megabytes"],
            FIRST_LOAD_MB,
            5,
            "MB",
        )
        bound("first visit, interactive", "until all mathematics is set", seen["seconds"], INTERACTIVE_S, 5, "s")
    return rows


if __name__ == "__main__":
    main("site", run)
