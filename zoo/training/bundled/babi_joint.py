"""One MemN2N for all twenty bAbI tasks together: ``python -m zoo.training.bundled.babi_joint``.

The authors' configuration for joint training: d 50, 60 epochs, the rate halved every 15, 30 linear epochs before. Writes
``docs/data/babi_joint.json`` after every restart; a run that starts again does the missing seeds only, and
one with other settings is refused. With the data of :mod:`zoo.training.bundled.babi_table`, so its columns compare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from zoo.memory.babi import TASKS as NAMES
from zoo.memory.babi import WORDS
from zoo.memory.memn2n import MemN2N
from zoo.registry.files import write_atomic
from zoo.training.bundled import memn2n
from zoo.training.bundled.memn2n import Task

DIM, LINEAR, EPOCHS, HALVE = 50, 30, 60, 15
FIELDS = {
    "memn2n": "test error %, restart with the lowest training error over all tasks",
    "memn2n_restarts": "test error % of every restart, in the order of the seeds",
    "memn2n_train": "training error % of the restart that was taken",
    "passed": "whether memn2n errs on at most 5 %",
}


def together(parts: Sequence[Task]) -> Task:
    """The tasks one after the other, sentences and questions padded to the longest, without slots that no story fills."""
    words = max(p.stories.shape[2] for p in parts)
    return memn2n.trimmed(
        Task(
            torch.cat([F.pad(p.stories, (0, words - p.stories.shape[2])) for p in parts]),
            torch.cat([F.pad(p.questions, (0, words - p.questions.shape[1])) for p in parts]),
            torch.cat([p.answers for p in parts]),
        )
    )


def errors(model: MemN2N, data: Task, tasks: int) -> list[float]:
    """Wrong answers in percent of every task."""
    pieces = (x.chunk(tasks) for x in data)
    return [round(memn2n.error(model, Task(*part)), 2) for part in zip(*pieces, strict=True)]


def run(
    tasks: Sequence[int],
    seed: int,
    questions: int = memn2n.QUESTIONS,
    linear: int = LINEAR,
    epochs: int = EPOCHS,
    halve: int = HALVE,
    dim: int = DIM,
) -> tuple[MemN2N, dict[str, list[float]]]:
    """One training on all ``tasks`` together: the model, and its errors in percent on each."""
    known, fresh = (together([memn2n.load(t, s, questions=questions) for t in tasks]) for s in (True, False))
    torch.manual_seed(seed)
    model = MemN2N(len(WORDS) + 1, dim, memory=memn2n.MEMORY)
    memn2n.train(model, known, seed, linear, epochs, halve=halve)
    return model, {"train": errors(model, known, len(tasks)), "test": errors(model, fresh, len(tasks))}


def table(tasks: Sequence[int], found: Sequence[dict[str, Any]], setting: dict[str, int]) -> dict[str, Any]:
    """One row a task, with the setting in words."""
    from zoo.claims.run import environment

    best = min(found, key=lambda f: statistics.fmean(f["train"]))
    rows = [
        {
            "task": task,
            "name": NAMES[task][0],
            "memn2n": best["test"][i],
            "memn2n_restarts": [f["test"][i] for f in found],
            "memn2n_train": best["train"][i],
            "passed": best["test"][i] <= 5,
        }
        for i, task in enumerate(tasks)
    ]
    return {
        "what": f"bAbI, test error in percent, one network for {len(tasks)} tasks",
        "setting": f"{setting['questions']} questions a task for training and as many for test from zoo's generator (not the "
        f"released files), MemN2N with 3 hops, d {setting['dim']}, {memn2n.MEMORY} sentences, official position encoding, "
        f"time noise 0.1, adjacent tying, SGD {memn2n.LR} on summed losses, batch {memn2n.BATCH}, {setting['linear']} linear "
        f"epochs and {setting['epochs']} more, rate halved every {setting['halve']}, restarts: {len(found)}, the best by "
        "training error taken",
        "options": setting,
        "fields": FIELDS,
        "environment": environment(),
        "processor_seconds": round(sum(f["seconds"] for f in found)),
        "tasks": list(tasks),
        "mean": round(statistics.fmean(best["test"]), 2),
        "passed": sum(r["passed"] for r in rows),
        "restarts": list(found),
        "rows": rows,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=sorted(NAMES), choices=sorted(NAMES), metavar="1..20")
    parser.add_argument("--restarts", type=int, default=1, help="seeds 0, 1, ...; the best by training error is taken")
    for name, value in (("questions", memn2n.QUESTIONS), ("linear", LINEAR), ("epochs", EPOCHS), ("halve", HALVE)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--out", type=Path, default=Path("docs/data/babi_joint.json"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    tasks = sorted(set(arguments.tasks))
    setting = {k: getattr(arguments, k) for k in ("questions", "linear", "epochs", "halve", "dim")}
    old = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else None
    if old is not None and (old["options"], old["tasks"]) != (setting, tasks):
        parser.error(f"{arguments.out} holds {old['options']} on tasks {old['tasks']}; give another --out or remove it")
    found = list(old["restarts"]) if old is not None else []
    for seed in range(len(found), arguments.restarts):
        started = time.process_time()
        _, result = run(tasks, seed, **setting)
        found.append({**result, "seconds": time.process_time() - started})
        write_atomic(arguments.out, json.dumps(table(tasks, found, setting), indent=1) + "\n")
        print(seed, dict(zip(tasks, result["test"], strict=True)), flush=True)


if __name__ == "__main__":
    main()
