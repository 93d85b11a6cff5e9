"""What a swap did: replaced, kept with reasons, parameters before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Replaced:
    """One module that was exchanged. ``note`` says what could not be carried over, if anything."""

    path: str
    old: str
    new: str
    note: str = ""


@dataclass(frozen=True)
class Kept:
    """One module that stayed. ``by_design`` marks what the swap never means (a sigmoid gate, say)."""

    path: str
    type: str
    reason: str
    by_design: bool = False


@dataclass(frozen=True)
class SwapReport:
    """The result of one swap (or of several: see :attr:`parts`).

    Attributes:
        swap: ``norm``, ``act``, ``conv`` or ``pool``.
        method: what was put in, as given.
        replaced: every exchanged module.
        kept: every module of the swapped kind that stayed, with the reason.
        parameters_before, parameters_after: number of parameters of the whole model.
        parts: the reports of the single swaps when several were asked for.
    """

    swap: str
    method: str
    replaced: tuple[Replaced, ...] = ()
    kept: tuple[Kept, ...] = ()
    parameters_before: int = 0
    parameters_after: int = 0
    parts: tuple[SwapReport, ...] = field(default=(), repr=False)

    @property
    def complete(self) -> bool:
        """Nothing of the swapped kind is left, but for what stays by design."""
        return all(k.by_design for k in self.kept)

    @property
    def left(self) -> tuple[Kept, ...]:
        """What should have been replaced and was not."""
        return tuple(k for k in self.kept if not k.by_design)

    def __str__(self) -> str:
        if self.parts:
            return "\n".join(map(str, self.parts))
        old = Counter(r.old for r in self.replaced)
        what = ", ".join(f"{n} {name}" for name, n in old.most_common())
        lines = [
            f"{self.swap}={self.method}: {len(self.replaced)} replaced ({what or 'none'}), {len(self.left)} left, "
            f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"
        ]
        reasons = Counter((k.type, k.reason, k.by_design) for k in self.kept)
        lines += [f"  kept {n} {t}: {why}{' (by design)' if design else ''}" for (t, why, design), n in reasons.items()]
        notes = Counter(r.note for r in self.replaced if r.note)
        lines += [f"  note for {n}: {note}" for note, n in notes.items()]
        return "\n".join(lines)


def join(reports: list[SwapReport]) -> SwapReport:
    """Several swaps of one model as one report."""
    if len(reports) == 1:
        return reports[0]
    return SwapReport(
        swap="+".join(r.swap for r in reports),
        method=", ".join(r.method for r in reports),
        replaced=tuple(x for r in reports for x in r.replaced),
        kept=tuple(x for r in reports for x in r.kept),
        parameters_before=reports[0].parameters_before,
        parameters_after=reports[-1].parameters_after,
        parts=tuple(reports),
    )
