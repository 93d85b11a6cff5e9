"""What a run says at its end: last and best epoch, what was memorised, how well suspects were found."""

from __future__ import annotations

from collections.abc import Sequence
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


def suspects_of(algorithm: Algorithm, wrong: Tensor) -> dict[str, float] | None:
    """:func:`ranking` of what the algorithm mistrusts; None if it ranks nothing or no label is wrong."""
    if algorithm.trust is None or not bool(wrong.any()) or bool(algorithm.trust.isnan().all()):
        return None
    return ranking(algorithm.suspects(), wrong)


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
        "global_batch": loaded.recipe.batch,
        "processes": place.size,
        "seconds": last["seconds"],
        "environment": environment(),
    }  # fmt: skip
