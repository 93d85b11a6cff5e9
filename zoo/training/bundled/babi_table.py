"""All twenty bAbI tasks, trained one by one, beside published figures: ``python -m zoo.training.bundled.babi_table``.

Writes ``docs/data/babi_table.json`` after every task, so that a run can be watched or broken off; a run that starts again
does the missing tasks only. The data come from zoo's own generator, so the columns are not measurements of one thing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from zoo.memory.babi import TASKS as NAMES
from zoo.memory.babi import WORDS, BabiDataset, majority
from zoo.registry.files import write_atomic
from zoo.training.bundled import memn2n
from zoo.training.bundled.babi_baselines import lstm_error, n_gram_error
from zoo.training.bundled.weights import save

#: Test error in percent of the authors' MATLAB code on the released 1k files, one network a task, three hops, position
#: encoding, linear start, random noise, as run and listed by vinhkhuc/MemN2N-babi-python (bechmarks/README.md).
PUBLISHED = (
    0.1, 8.2, 41.8, 4.4, 13.7, 7.9, 20.3, 11.7, 13.6, 9.7, 0.7, 0.0, 0.3, 0.9, 0.0, 0.4, 51.0, 10.5, 81.4, 0.0,
)  # fmt: skip
SOURCE = "authors' MATLAB code on the released 1k files; bechmarks/README.md of vinhkhuc/MemN2N-babi-python"
FIELDS = {
    "memn2n": "test error %, restart with the lowest training error",
    "memn2n_restarts": "test error % of every restart, in the order of the seeds",
    "memn2n_train": "training error % of the restart that was taken",
    "n_gram": "test error % of a linear classifier on 1- to 3-grams of the sentences that share a word with the question",
    "lstm": "test error % of an LSTM of 50 units over all words",
    "majority": "test error % of the most frequent training answer",
    "published": SOURCE,
    "passed": "whether memn2n errs on at most 5 %",
}


def row(task: int, restarts: int, weights: Path | None = None) -> dict[str, Any]:
    """Every column for one task; ``weights`` is a folder for the networks that come with the package."""
    train, test = (BabiDataset(task, s, memn2n.QUESTIONS, 0, memn2n.MEMORY, vocabulary=WORDS) for s in (True, False))
    known, fresh = (memn2n.trimmed(memn2n.load(task, s)) for s in (True, False))
    models, found = zip(*(memn2n.run(task, seed) for seed in range(restarts)), strict=True)
    best = min(found, key=lambda f: f["train"])
    if weights is not None and task in memn2n.TASKS:
        save(models[found.index(best)], weights / f"memn2n_babi_task{task}.safetensors")
    return {
        "task": task,
        "name": NAMES[task][0],
        "memn2n": best["test"],
        "memn2n_restarts": [f["test"] for f in found],
        "memn2n_train": best["train"],
        "n_gram": round(n_gram_error(train, test), 2),
        "lstm": round(lstm_error(known, fresh), 2),
        "majority": round(100 - majority(train.examples, test.examples), 2),
        "published": PUBLISHED[task - 1],
        "passed": best["test"] <= 5,
    }


def table(rows: list[dict[str, Any]], restarts: int, seconds: float) -> dict[str, Any]:
    """The rows with their means and the setting in words."""
    from zoo.claims.run import environment

    columns = ("memn2n", "n_gram", "lstm", "majority", "published")
    return {
        "what": "bAbI, test error in percent, one network a task",
        "setting": f"{memn2n.QUESTIONS} questions for training and {memn2n.QUESTIONS} for test from zoo's generator (not the "
        f"released files), MemN2N with 3 hops, d 20, {memn2n.MEMORY} sentences, official position encoding, time noise 0.1, "
        f"adjacent tying, SGD {memn2n.LR} on summed losses, batch {memn2n.BATCH}, {memn2n.LINEAR} linear epochs and "
        f"{memn2n.EPOCHS} more, rate halved every {memn2n.HALVE}, restarts: {restarts}, the best by training error taken (paper: "
        "10); "
        "n-grams and LSTM with one seed",
        "command": f"python -m zoo.training.bundled.babi_table --restarts {restarts}",
        "fields": FIELDS,
        "environment": environment(),
        "processor_seconds": round(seconds),
        "tasks": len(rows),
        # A mean over some of the tasks would stand beside published means over all.
        "mean": {c: round(statistics.fmean(r[c] for r in rows), 2) for c in columns}
        if len(rows) == len(NAMES)
        else None,
        "passed": sum(r["passed"] for r in rows),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=memn2n.RESTARTS)
    parser.add_argument("--weights", type=Path, help="folder for the weights of the bundled tasks")
    parser.add_argument("--tasks", type=int, nargs="*", default=sorted(NAMES))
    parser.add_argument("--out", type=Path, default=Path("docs/data/babi_table.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    old = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
    rows = {r["task"]: r for r in old.get("rows", ())}
    spent = old.get("processor_seconds", 0)
    for task in arguments.tasks:
        if task in rows:
            continue
        started = time.process_time()
        rows[task] = row(task, arguments.restarts, arguments.weights)
        spent += time.process_time() - started
        done = [rows[t] for t in sorted(rows)]
        write_atomic(arguments.out, json.dumps(table(done, arguments.restarts, spent), indent=1) + "\n")
        print(rows[task], flush=True)


if __name__ == "__main__":
    main()
