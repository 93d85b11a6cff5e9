"""Speed of the site: generation, cold and incremental build, growth with generated papers, weight of a first visit.

    python benchmarks/site/bench_site.py [--papers 90 300 1000] [--out benchmarks/results/site.json]

Papers are copies of the shipped ones under other names, so a page is as heavy as a real one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from pathlib import Path
from zoo.registry.load import load
from zoo.registry.lookup import Registry, use
root, out = Path(sys.argv[1]), Path(sys.argv[2])
start = time.perf_counter()
use(Registry(load(root), root))
from zoo.site.build import generate
report = generate(out)
print(time.perf_counter() - start, report.pages, len(report.written))
"""


def copies(root: Path, count: int) -> None:
    """A registry of ``count`` papers: the shipped one, cut or repeated."""
    import yaml

    registry = yaml.safe_load((ROOT / "registry.yaml").read_text())
    pages = sorted((ROOT / "catalog").glob("*/*.md"))
    methods: dict[str, Any] = {}
    for i in range(count):
        page = pages[i % len(pages)]
        name = page.stem if i < len(pages) else f"{page.stem}_copy{i // len(pages)}"
        text = page.read_text()
        if i >= len(pages):
            text = re.sub(r"^arxiv: .*$", f'arxiv: "{3000 + i // 100:04d}.{i:05d}"', text, count=1, flags=re.MULTILINE)
            text = re.sub(r"^aliases: .*\n", "", text, count=1, flags=re.MULTILINE)
            text = re.sub(r"^relations:\n(?:[ ]+.*\n)+", "", text, count=1, flags=re.MULTILINE)
        target = root / "catalog" / page.parent.name / f"{name}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        for method, record in registry["methods"].items():
            if record["paper"] == page.stem:
                suffix = name.removeprefix(page.stem)
                copied = {k: v for k, v in record.items() if not (suffix and k in ("aliases", "weights"))}
                methods[method + suffix] = {**copied, "paper": name}
    kept = {p.stem for p in root.glob("catalog/*/*.md")}
    for page in root.glob("catalog/*/*.md"):
        text = page.read_text()
        text = re.sub(r"^relations:\n(?:[ ]+.*\n)+", "", text, flags=re.MULTILINE) if len(kept) < len(pages) else text
        page.write_text(text)
    models = registry["models"] if len(kept) >= len(pages) else {}
    (root / "registry.yaml").write_text(yaml.safe_dump({"methods": methods, "models": models}))
    shutil.copy(ROOT / "registry.lock.json", root)


def run(arguments: list[str]) -> tuple[float, str]:
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, check=True)
    return time.perf_counter() - start, done.stdout


def measure(count: int, repeat: int) -> dict[str, Any]:
    """Times of one size; medians of ``repeat`` cold builds."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "root", Path(folder) / "docs"
        root.mkdir()
        copies(root, count)
        _, said = run(["-c", PROGRAM, str(root), str(out)])
        generated, pages, _ = said.split()
        _, said = run(["-c", PROGRAM, str(root), str(out)])
        again, _, written = said.split()
        config = str(out.parent / "mkdocs.gen.yml")
        cold = statistics.median(run(["-m", "mkdocs", "build", "-q", "-f", config])[0] for _ in range(repeat))
        page = next(root.glob("catalog/normalization/*.md"))
        page.write_text(page.read_text() + "\nOne more sentence.\n")
        start = time.perf_counter()
        run(["-c", PROGRAM, str(root), str(out)])
        run(["-m", "mkdocs", "build", "-q", "--dirty", "-f", config])
        changed = time.perf_counter() - start
        index = (out.parent / "site" / "search" / "search_index.json").stat().st_size
        return {
            "name": f"{count} papers", "papers": count, "pages": int(pages), "generate_s": round(float(generated), 2),
            "generate_again_s": round(float(again), 2), "files_written_again": int(written), "cold_build_s": round(cold, 2),
            "one_page_changed_s": round(changed, 2), "seconds_a_paper": round(cold / count, 4), "search_index_bytes": index,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, nargs="+", default=[90, 300, 1000])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [measure(n, options.repeat) for n in options.papers]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "environment": {
            "python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count(),
            "load_at_end": round(os.getloadavg()[0], 1), "mkdocs": version("mkdocs"), "mkdocs-material": version("mkdocs-material"),
        },
        "results": rows,
    }  # fmt: skip
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
