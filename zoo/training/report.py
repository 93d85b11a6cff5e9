"""What a run says at its end: last and best epoch, what was memorised, how well suspects were found."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.noisy_labels.base import Algorithm
from zoo.training.data import Data
from zoo.training.distributed import World
from zoo.training.recipe import Loaded


def ranking(suspects: Tensor, wrong: Tensor) -> dict[str, float]:
    """How well a ranking finds the labels that are known to be wrong.

    Args:
        suspects: ``(M,)`` indices, the most suspect first.
        wrong: ``(N,)`` bool.

    Returns:
        ``k`` (the number of wrong labels), percent of the first k that are wrong (``precision``), percent of the wrong
        ones among the first k (``recall``), ``average_precision`` over the whole ranking, and ``chance``, the precision
        of a random ranking.
    """
    k, n = int(wrong.sum()), len(wrong)
    hits = wrong.cpu()[suspects.cpu()].double()
    first = float(hits[:k].sum())
    precision_at = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    average = float((precision_at * hits).sum()) / k
    figures = {
        "precision": first / max(1, min(k, len(hits))),
        "recall": first / k,
        "average_precision": average,
        "chance": k / n,
    }
    return {"k": k, **{name: round(100 * value, 4) for name, value in figures.items()}}


def ranks(algorithm: Algorithm) -> bool:
    """Whether the algorithm has something to say in :meth:`~zoo.noisy_labels.base.Algorithm.suspects`."""
    return algorithm.trust is not None and not bool(algorithm.trust.isnan().all())


def suspects_of(algorithm: Algorithm, wrong: Tensor) -> dict[str, float] | None:
    """:func:`ranking` of what the algorithm mistrusts; None if it ranks nothing or no label is wrong."""
    return ranking(algorithm.suspects(), wrong) if bool(wrong.any()) and ranks(algorithm) else None


def suspects_csv(data: Data, algorithm: Algorithm, root: str | Path | None = None) -> bytes | None:
    """``rank,trust,label,sample`` for every training sample that was seen, the least trusted label first.

    ``trust`` is the method's own scale, the smaller the more suspect; ``label`` the name of the class that was given;
    ``sample`` the file, relative to ``root`` where it lies in it, else the number in the source, else the number in the
    training set. None if the algorithm ranks nothing.
    """
    if not ranks(algorithm):
        return None
    assert algorithm.trust is not None
    chosen = algorithm.suspects().cpu()
    trust, labels = algorithm.trust.cpu()[chosen].tolist(), data.train.labels.cpu()[chosen].tolist()
    samples: list[Any] = (chosen if data.train.origin is None else data.train.origin[chosen]).tolist()
    if data.train.files is not None:
        top = None if root is None else Path(root).expanduser()
        files = (data.train.files[i] for i in chosen.tolist())
        samples = [(f.relative_to(top) if top and f.is_relative_to(top) else f).as_posix() for f in files]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("rank", "trust", "label", "sample"))
    table.writerows(
        (i + 1, f"{t:.6g}", data.classes[k], sample)
        for i, (t, k, sample) in enumerate(zip(trust, labels, samples, strict=True))
    )
    return text.getvalue().encode(errors="surrogateescape")  # file names need not be Unicode


def report(
    loaded: Loaded, data: Data, algorithm: Algorithm, rows: Sequence[dict[str, Any]],
    best: dict[str, Any] | None, fitted: float | None, place: World,
) -> dict[str, Any]:  # fmt: skip
    """The report as JSON types. ``best`` was chosen by noisy validation labels; test labels choose nothing."""
    from zoo.claims.run import environment

    last = rows[-1]
    wrong = data.wrong
    return {
        "recipe": loaded.name,
        "fields": loaded.recipe.model_dump(mode="json", exclude_defaults=True),
        "last": {k: last[k] for k in ("epoch", "validation", "test")},
        "best": best,
        "best_by": None if best is None else "accuracy on a held-out split with noisy labels",
        "noise": {"wrong_labels": int(wrong.sum()), "share": round(100 * float(wrong.double().mean()), 4), "memorised": fitted},
        "suspects": suspects_of(algorithm, wrong),
        "samples": {
            "train": len(data.train), "test": len(data.test),
            "validation": 0 if data.validation is None else len(data.validation),
            "clean": 0 if data.meta is None else len(data.meta),
        },
        "classes": list(data.classes),
        "input": {"size": list(data.shape), "mean": _decimals(data.mean), "std": _decimals(data.std)},
        "global_batch": loaded.recipe.batch,
        "processes": place.size,
        "seconds": last["seconds"],
        "environment": environment(),
    }  # fmt: skip


def _decimals(values: Tensor) -> list[float]:
    """float32 values by the shortest decimals that name them: 0.1307, not 0.13070000708103180."""
    return [float(str(v)) for v in values.flatten().cpu().numpy()]
