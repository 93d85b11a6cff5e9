"""Licence classes. A licence that is not in the table is `other`, one that nobody states `unknown`; none is guessed."""

from __future__ import annotations

#: Use, change and sell, with at most notice and attribution.
PERMISSIVE = frozenset(
    {
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-4.0",
        "isc",
        "unlicense",
        "bsl-1.0",
    }
)
NON_COMMERCIAL = frozenset(
    {
        "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "fair-noncommercial-research-license",
        "apple-amlr",  # Apple's licence for research on its models: research purposes only
    }
)  # fmt: skip
CLASSES = ("permissive", "non-commercial", "other", "unknown")


def licence_class(licence: str | None) -> str:
    """``permissive``, ``non-commercial``, ``other`` (a named licence with its own terms) or ``unknown``."""
    name = (licence or "").strip().casefold()
    if name in PERMISSIVE:
        return "permissive"
    if name in NON_COMMERCIAL:
        return "non-commercial"
    return "unknown" if name in {"", "none", "unknown", "n/a"} else "other"
