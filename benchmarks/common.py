"""Interleaved medians, and the one form in which results are kept."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
FIELDS = {"name", "what", "ours", "baseline", "unit", "ratio", "target", "met", "runs", "reference"}
UNITS = ("ms", "s", "MB")


def interleave(candidates: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of each candidate; every round runs all of them once, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(rounds + warmup):
        for name, function in candidates.items():
            started = time.perf_counter()
            function()
            if i >= warmup:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_megabytes(function: Callable[[], Any], warmup: int = 1) -> float:
    """Largest sum of CPU tensor memory that ``function`` holds beyond what stood before it, in 10^6 bytes.

    Read from the allocator's own events, so that temporaries inside an operator count too. What was there before the call
    (inputs, parameters) does not count, nor does its release.
    """
    import torch

    for _ in range(warmup):
        function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def row(
    name: str,
    what: str,
    ours: float,
    reference: float,
    target: float | None,
    runs: int,
    against: str,
    unit: str = "ms",
) -> dict[str, Any]:
    """One comparison: ``ratio`` is ours / reference; ``met`` says whether it is at most ``target`` (None: no target)."""
    ratio = ours / reference
    return {
        "name": name, "what": what, "ours": round(ours, 4), "baseline": round(reference, 4), "unit": unit, "ratio": round(ratio, 4),
        "target": target, "met": None if target is None else ratio <= target, "runs": runs, "reference": against,
    }  # fmt: skip


def problems(result: Any) -> list[str]:
    """What is wrong with a results file; an empty list when nothing is."""
    found = []
    if not isinstance(result, dict) or set(result) != {"benchmark", "date", "environment", "rows"}:
        return ["a result has benchmark, date, environment and rows"]
    if set(result["environment"]) < {"python", "platform", "torch", "timm", "device", "threads"}:
        found.append("environment is incomplete")
    for r in result["rows"]:
        if set(r) != FIELDS:
            found.append(f"row {r.get('name')}: fields {sorted(set(r) ^ FIELDS)}")
        elif abs(r["ratio"] - r["ours"] / r["baseline"]) > 0.02 * max(r["ratio"], 0.01) + 1e-3:
            found.append(f"row {r['name']}: ratio does not follow from its figures")
        elif r["unit"] not in UNITS:
            found.append(f"row {r['name']}: unit {r['unit']!r} is none of {UNITS}")
        elif r["target"] is not None and r["met"] is not (r["ratio"] <= r["target"]):
            found.append(f"row {r['name']}: met does not follow from ratio and target")
    return found


def main(benchmark: str, run: Callable[[], list[dict[str, Any]]]) -> None:
    """Run, print, and with ``--write`` record ``results/<benchmark>.json``."""
    from zoo.claims.run import environment

    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = {
        "benchmark": benchmark,
        "date": str(datetime.now(UTC).date()),
        "environment": environment(),
        "rows": run(),
    }
    if wrong := problems(result):
        raise SystemExit("\n".join(wrong))
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for r in result["rows"]:
            verdict = {True: "met", False: "MISSED", None: ""}[r["met"]]
            target = "" if r["target"] is None else f" (target <= {r['target']})"
            print(
                f"{r['name']:<44} {r['ours']:>10.3f} {r['unit']}  {r['baseline']:>10.3f} {r['unit']}  ratio "
                f"{r['ratio']:.3f}{target} {verdict}"
            )
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{benchmark}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
