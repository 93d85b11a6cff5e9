"""What changed between two versions of registry and catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.registry.load import load


@dataclass(frozen=True)
class Change:
    """``what`` is added, removed or changed; ``fields`` names what changed within an entry."""

    what: str
    section: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what:<8} {self.section}.{self.name}" + (f": {', '.join(self.fields)}" if self.fields else "")


def diff_registries(old: Path, new: Path) -> list[Change]:
    """Changes from ``old`` to ``new`` (folders with registry.yaml and catalog), by section and name."""
    before, after = load(old, use_cache=False), load(new, use_cache=False)
    changes = []
    for section in ("papers", "methods", "models"):
        a: dict[str, Any] = getattr(before, section)
        b: dict[str, Any] = getattr(after, section)
        changes += [Change("removed", section, n) for n in sorted(a.keys() - b.keys())]
        changes += [Change("added", section, n) for n in sorted(b.keys() - a.keys())]
        for name in sorted(a.keys() & b.keys()):
            fields = tuple(sorted(f for f in a[name].keys() | b[name].keys() if a[name].get(f) != b[name].get(f)))
            if fields:
                changes.append(Change("changed", section, name, fields))
    return changes
