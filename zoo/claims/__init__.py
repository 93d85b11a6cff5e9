"""One short function a claim; ``zoo reproduce`` runs them and writes the evidence beside the catalog page.

A check takes the seeds to run and returns an :class:`Outcome`. Its status follows from the figures it
measured by the criterion that ``tolerance`` states in words; it never returns a status that was decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["reproduced", "partly", "refuted"]


@dataclass(frozen=True)
class Outcome:
    """What a claim check found.

    Attributes:
        status: the verdict that follows from ``measured`` by ``tolerance``.
        measured: the figures, JSON-serialisable; means and spreads over the seeds.
        setting: data, model, optimizer, epochs: what was really run, in one sentence.
        tolerance: the criterion in words, e.g. "IN within 2 points at every contrast, BN loses 10 or more".
    """

    status: Status
    measured: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    tolerance: str = ""


ClaimCheck = Callable[[Sequence[int]], Outcome]


def verdict(*holds: bool) -> Status:
    """``reproduced`` when every part of the criterion holds, ``refuted`` when none does, else ``partly``."""
    if not holds:
        raise ValueError("a verdict needs at least one criterion")
    return "reproduced" if all(holds) else "partly" if any(holds) else "refuted"


def mean_and_spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample standard deviation over seeds, rounded for the record."""
    import statistics

    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.fmean(values), 4), "std": round(spread, 4), "n": len(values)}
