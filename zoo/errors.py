"""Errors that teach: what was received, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def key(name: str) -> str:
    """Fold a name for comparison: case and the separators ``_ - . space /`` carry no meaning."""
    return name.casefold().translate(_SEPARATORS)


_SEPARATORS = str.maketrans("", "", "_-. /")


def nearest(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """The ``n`` names most like ``name``, best first; empty when nothing is near."""
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(key(candidate), candidate)
    wanted = key(name)
    hits = difflib.get_close_matches(wanted, folded, n=n, cutoff=0.6)
    if not hits:  # a prefix is a good guess even where the edit distance is large
        hits = sorted((k for k in folded if len(wanted) > 2 and k.startswith(wanted)), key=len)[:n]
    return [folded[k] for k in hits]


def suggestion(name: str, names: Iterable[str]) -> str:
    """``" Did you mean 'group_norm' or 'batch_norm'?"``, or an empty string."""
    hits = nearest(name, names)
    return f" Did you mean {' or '.join(repr(h) for h in hits)}?" if hits else ""


class ZooError(Exception):
    """Base of every error that zoo raises on purpose."""


class UnknownName(ZooError, LookupError):
    """A name (method, model, paper, kind, category, field) that nothing carries."""

    def __init__(self, what: str, name: str, names: Iterable[str], hint: str = "") -> None:
        names = list(names)
        self.what, self.name, self.near = what, name, nearest(name, names)
        super().__init__(f"Unknown {what} {name!r}.{suggestion(name, names)}{' ' + hint if hint else ''}")


class AmbiguousName(ZooError, LookupError):
    """A paper, title or prefix that several entries answer to."""

    def __init__(self, what: str, name: str, names: Iterable[str], hint: str = "") -> None:
        self.name, self.names = name, sorted(names)
        shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        super().__init__(f"{what} {name!r} is ambiguous: it may mean {shown}.{' ' + hint if hint else ''}")


class UnknownArgument(ZooError, TypeError):
    """A keyword that the target does not take."""


class RegistryError(ZooError, ValueError):
    """A registry, catalog page or lock file that is not valid; lists every problem found."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        n = len(self.problems)
        super().__init__(f"{n} problem{'s' if n != 1 else ''} found\n" + "\n".join(f"  {p}" for p in self.problems))


class SwapError(ZooError, ValueError):
    """A swap that could not be completed; the model is left as it was."""


class WeightsError(ZooError):
    """Pretrained weights that do not exist, do not fit, or may not be used so."""


class IntegrityError(WeightsError):
    """Bytes that are not those which were promised."""


class PinError(WeightsError):
    """A checkpoint without a pin where one is demanded, or a pin that no longer holds."""


class HubError(WeightsError):
    """The Hub refused, failed or could not be reached."""


class LicenceError(WeightsError):
    """Weights whose licence the caller's filter excludes."""
