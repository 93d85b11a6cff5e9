"""One protocol, eleven methods, five kinds of label noise: ``python -m zoo.training.noise_table --data FOLDER --write``.

The recipe is ``cifar10_small``: it holds everything but method and noise. Every method trains on the same samples, also those
that leave the clean set unused, and keeps one setting in all columns; only Co-teaching is told the share of wrong labels,
because it takes that as a parameter. Finished runs are kept, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.claims import mean_and_spread
from zoo.registry.files import checkout_root, write_atomic

RECIPE = "cifar10_small"
NOISE: dict[str, tuple[str, float]] = {
    "symmetric 20": ("symmetric_exclusive", 0.2),
    "symmetric 40": ("symmetric_exclusive", 0.4),
    "symmetric 60": ("symmetric_exclusive", 0.6),
    "symmetric 80": ("symmetric_exclusive", 0.8),
    "asymmetric 40": ("asym_cifar10", 0.4),
}
METHODS = (
    "cross_entropy", "mae_loss", "gce", "sce", "imae", "derivative_manipulation", "elr", "co_teaching",
    "learning_to_reweight", "meta_weight_net", "dividemix",
)  # fmt: skip


def spec(method: str, noise: str) -> Any:
    """Method and parameters for one column; asym_cifar10 flips half of the classes, so half as many labels are wrong."""
    name, rate = NOISE[noise]
    if method == "co_teaching":
        return {method: {"forget_rate": rate if name == "symmetric_exclusive" else rate / 2}}
    if method == "dividemix":
        return {method: {"warmup": 5}}  # a quarter of the epochs; the default of 10 would be half of them
    return method


def run(method: str, noise: str, seed: int, data: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Test accuracy of last and best epoch, share of wrong labels predicted, precision of the suspects; percent."""
    from zoo.training.engine import train
    from zoo.training.recipe import load

    name, rate = NOISE[noise]
    changes = {
        "data.path": data, "data.clean_per_class": 10, "noise": {"name": name, "rate": rate}, "seed": seed,
        "method": spec(method, noise), **(extra or {}),
    }  # fmt: skip
    report = train(load(RECIPE, changes), show=False).report
    suspects = report["suspects"]
    return {
        "method": method, "noise": noise, "seed": seed, "last": report["last"]["test"], "best": report["best"]["test"],
        "best_epoch": report["best"]["epoch"], "memorised": report["noise"]["memorised"],
        "suspects": None if suspects is None else suspects["precision"],
    }  # fmt: skip


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a method and noise, means and spreads over the seeds that all methods of this noise were run with."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for r in runs:
        seeds.setdefault((r["noise"], r["method"]), set()).add(r["seed"])
    shared = {noise: set.intersection(*(s for (n, _), s in seeds.items() if n == noise)) for noise, _ in seeds}
    rows = []
    for method in METHODS:
        for noise in NOISE:
            found = [r for r in runs if (r["method"], r["noise"]) == (method, noise) and r["seed"] in shared[noise]]
            if not found:
                continue
            row: dict[str, Any] = {"method": method, "noise": noise, "seeds": sorted(r["seed"] for r in found)}
            for key in ("last", "best", "memorised", "suspects"):
                values = [r[key] for r in found if r[key] is not None]
                row[key] = mean_and_spread(values) if len(values) == len(found) else None
            rows.append(row)
    return rows


def main() -> None:
    from zoo.claims.run import environment
    from zoo.training.recipe import load

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--noise", nargs="+", choices=tuple(NOISE), default=tuple(NOISE))
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/cifar10_noisy.json"), help="where finished runs are kept"
    )
    parser.add_argument("--write", action="store_true", help="record docs/data/cifar10_noisy.json")
    arguments = parser.parse_args()
    digest = load(RECIPE).recipe.digest()
    kept: dict[str, Any] = json.loads(arguments.runs.read_text()) if arguments.runs.exists() else {}
    if kept.get("recipe_digest") != digest:
        kept = {"recipe_digest": digest, "runs": []}
    for seed in arguments.seeds:
        for noise in arguments.noise:
            for method in arguments.methods:
                if any((r["method"], r["noise"], r["seed"]) == (method, noise, seed) for r in kept["runs"]):
                    continue
                kept["runs"].append(run(method, noise, seed, arguments.data))
                write_atomic(arguments.runs, json.dumps(kept, indent=1) + "\n")
                print(json.dumps(kept["runs"][-1]), flush=True)
    if arguments.write:
        root = checkout_root()
        assert root is not None, "the table is recorded in a checkout"
        result = {
            "recipe": RECIPE, "recipe_digest": digest, "date": str(datetime.now(UTC).date()), "environment": environment(),
            "rows": summarise(kept["runs"]),
        }  # fmt: skip
        write_atomic(root / "docs" / "data" / "cifar10_noisy.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
