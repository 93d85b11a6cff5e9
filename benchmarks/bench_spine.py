"""Start-up, listing, creation and loading against timm."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import interleave, main, row

LIST = "import zoo; zoo.list_methods(); zoo.list_models(); zoo.list_papers()"


def _start(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - started) * 1e3


def start_up(rounds: int = 5) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {"zoo": [], "timm": [], "python": []}
    for i in range(rounds + 1):
        for name, code in (("zoo", LIST), ("timm", "import timm"), ("python", "pass")):
            value = _start(code)
            if i:
                times[name].append(value)
    median = {k: statistics.median(v) for k, v in times.items()}
    return [
        row(
            "import zoo and list everything",
            "fresh interpreter, whole process",
            median["zoo"],
            median["timm"],
            0.03,
            rounds,
            "import timm",
        ),
        row(
            "the same without the interpreter's own start",
            "difference of medians",
            median["zoo"] - median["python"],
            median["timm"] - median["python"],
            0.03,
            rounds,
            "import timm",
        ),
    ]


def creation(rounds: int = 9) -> list[dict[str, Any]]:
    import timm

    import zoo

    rows = []
    for name in ("resnet50", "vit_small_patch16_224"):
        found = interleave({"zoo": lambda n=name: zoo.create(n), "timm": lambda n=name: timm.create_model(n)}, rounds)
        rows.append(row(f"create {name}", "no weights", found["zoo"], found["timm"], 1.05, rounds, "timm.create_model"))
    found = interleave(
        {"zoo": lambda: zoo.create("gn_resnet50"), "timm": lambda: timm.create_model("resnet50_gn")}, rounds
    )
    rows.append(
        row(
            "create gn_resnet50 by surgery",
            "no weights, 53 norms exchanged",
            found["zoo"],
            found["timm"],
            1.05,
            rounds,
            "timm resnet50_gn",
        )
    )
    return rows


def loading(rounds: int = 7) -> list[dict[str, Any]]:
    """A pretrained ResNet-50 from a file on disk: timm's own path against ours, which checks the SHA-256 as well."""
    import hashlib

    import timm
    from safetensors.torch import save_file

    from zoo.hub.load import load_into
    from zoo.hub.source import Source
    from zoo.hub.weights import forget_verified, open_weights

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.safetensors"
        save_file(timm.create_model("resnet50").state_dict(), path)
        blob = path.read_bytes()
        source = Source(
            "resnet50", "bench", None, path.name, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob), root=folder
        )

        def ours(verified: bool) -> None:
            if not verified:
                forget_verified()
            load_into(lambda: timm.create_model("resnet50"), open_weights(path, source), cfg={"num_classes": 1000})

        def theirs() -> None:
            timm.create_model("resnet50", pretrained=True, pretrained_cfg_overlay={"file": str(path)})

        found = interleave({"first": lambda: ours(False), "again": lambda: ours(True), "timm": theirs}, rounds)
    return [
        row(
            "load ResNet-50, SHA-256 checked",
            "file in the page cache",
            found["first"],
            found["timm"],
            0.4,
            rounds,
            "timm pretrained=True, same file",
        ),
        row(
            "load ResNet-50, verified before in this process",
            "",
            found["again"],
            found["timm"],
            0.2,
            rounds,
            "timm pretrained=True, same file",
        ),
    ]


def many_papers(count: int = 10_000, rounds: int = 3) -> list[dict[str, Any]]:
    """A generated registry of 10,000 papers: first load (YAML parsed and validated) and the loads after it."""
    import os

    from zoo.registry.load import load
    from zoo.registry.schema import Method, Paper

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["ZOO_CACHE"] = str(root / "cache")
        (root / "catalog" / "losses").mkdir(parents=True)
        methods = []
        for i in range(count):
            body = "Notes.\n\n## Method\n\n## When to use it\n\n## Where re-implementations go wrong\n"
            (root / "catalog" / "losses" / f"paper{i}.md").write_text(
                f"---\ntitle: Paper number {i}\nauthors: [A. Author, B. Author]\nvenue: ICML\nyear: {1990 + i % 36}\n"
                f"url: https://example.org/{i}\nsummary: What paper {i} does.\n---\n{body}"
            )
            methods.append(f"  paper{i}: {{paper: paper{i}, kind: loss, target: 'torch.nn:CrossEntropyLoss'}}")
        (root / "registry.yaml").write_text("methods:\n" + "\n".join(methods) + "\nmodels: {}\n")
        started = time.perf_counter()
        load(root)
        cold = (time.perf_counter() - started) * 1e3

        def warm() -> None:
            raw = load(root)
            assert len(raw.papers) == count
            for record in raw.papers.values():
                Paper.model_validate(record)
            for record in raw.methods.values():
                Method.model_validate(record)

        found = interleave({"load": lambda: load(root), "load and validate": warm}, rounds, warmup=1)
        del os.environ["ZOO_CACHE"]
    second = 1000.0
    return [
        row(
            f"load {count:,} papers again",
            "every file's state compared",
            found["load"],
            second,
            1.0,
            rounds,
            "one second",
        ),
        row(
            f"load {count:,} papers again and validate all",
            "pydantic over every record",
            found["load and validate"],
            second,
            1.0,
            rounds,
            "one second",
        ),
        row(
            f"load {count:,} papers for the first time",
            "YAML parsed, validated, cross-checked",
            cold,
            second,
            None,
            1,
            "one second",
        ),
    ]


def run() -> list[dict[str, Any]]:
    return [*start_up(), *creation(), *loading(), *many_papers()]


if __name__ == "__main__":
    main("spine", run)
