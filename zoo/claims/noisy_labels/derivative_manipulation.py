"""Claims of Derivative Manipulation (arXiv 1905.11233), on digits with flipped labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.claims import Outcome, verdict
from zoo.claims.noisy_labels import protocol as p
from zoo.noisy_labels.derivative_manipulation import DerivativeManipulation


def beats_cross_entropy(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """DM(8, 0.5) against cross-entropy with AdamW and gradient clipping."""
    return p.resists(
        p.criterion(lambda: DerivativeManipulation(8.0, 0.5)), seeds, ahead=5.0, fitted=20.0, recipe=p.ADAMW
    )


def stable_at_constant_rate(seeds: Sequence[int] = (0, 1, 2)) -> Outcome:
    """Is it still so at a constant rate without clipping, where a fitted sample keeps pulling?"""
    runs = p.several(p.criterion(lambda: DerivativeManipulation(8.0, 0.5)), seeds)
    collapsed = sum(r.last < 50 for r in runs)
    return Outcome(
        verdict(collapsed == 0),
        {"method": p.figures(runs), "collapsed_runs": collapsed},
        p.setting(),
        "no run ends below 50 % after it had been above",
    )
