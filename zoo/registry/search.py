"""Ranked full text over titles, authors, aliases, summaries and notes."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from zoo.registry.lookup import Registry

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHTS = {"name": 8.0, "title": 5.0, "tags": 3.0, "authors": 3.0, "summary": 2.0, "notes": 1.0}


@dataclass(frozen=True)
class Hit:
    """One search result, best first: the paper, its methods and models, and where the words stood."""

    paper: str
    title: str
    score: float
    methods: tuple[str, ...]
    models: tuple[str, ...]
    excerpt: str


def words(text: str) -> list[str]:
    """Lower-case words without accents; ``BatchNorm-2d`` gives ``batchnorm`` and ``2d``."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()
    return re.findall(r"[a-z0-9]+", plain.replace("_", " "))


@lru_cache(maxsize=4096)
def _notes(path: Path, mtime_ns: int) -> str:
    text = path.read_text(encoding="utf-8")
    end = text.find("\n---\n", 3)
    return text[end + 5 :] if end > 0 else ""


def _fields(reg: Registry, identity: str) -> dict[str, str]:
    paper = reg.raw.papers[identity]
    methods, models = reg.methods_of.get(identity, []), reg.models_of.get(identity, [])
    aliases = [a for m in methods for a in reg.raw.methods[m].get("aliases", ())]
    aliases += [a for m in models for a in reg.raw.models[m].get("aliases", ())]
    page = reg.page(identity)
    try:
        notes = _notes(page, page.stat().st_mtime_ns)
    except OSError:
        notes = ""
    return {
        "name": " ".join([identity, *paper.get("aliases", ()), *methods, *models, *aliases, paper.get("arxiv", "")]),
        "title": paper["title"],
        "tags": " ".join(
            [
                *paper.get("tags", ()),
                paper["category"],
                *(reg.raw.methods[m]["kind"] for m in methods),
                paper["venue"],
                str(paper["year"]),
            ]
        ),
        "authors": " ".join(paper["authors"]),
        "summary": paper["summary"],
        "notes": notes,
    }


def search(reg: Registry, text: str, limit: int = 20) -> list[Hit]:
    """Papers that hold every word of ``text`` first, then those that hold some; names and titles weigh most."""
    wanted = list(dict.fromkeys(words(text)))
    if not wanted:
        return []
    documents = {p: {f: words(t) for f, t in _fields(reg, p).items()} for p in reg.raw.papers}
    frequency = {w: sum(any(_count(w, t) for t in d.values()) for d in documents.values()) for w in wanted}
    hits = []
    for identity, document in documents.items():
        score, found = 0.0, 0
        for word in wanted:
            weight = sum(_WEIGHTS[f] * _saturate(_count(word, tokens)) for f, tokens in document.items())
            if weight:
                found += 1
                score += weight * math.log(1 + len(documents) / frequency[word])
        if found:
            joined = "".join(wanted)
            if joined in {"".join(words(n)) for n in (identity, *reg.raw.papers[identity].get("aliases", ()))}:
                score += 100.0  # the query is its name
            hits.append((found, score, identity))
    hits.sort(key=lambda h: (-h[0], -h[1], h[2]))
    return [_hit(reg, identity, score, wanted) for _, score, identity in hits[:limit]]


def _count(word: str, tokens: list[str]) -> float:
    counts = Counter(tokens)
    exact = counts.get(word, 0)
    # A prefix counts half, so that "norm" finds "normalization" but "norm" itself comes first.
    return exact + 0.5 * sum(n for t, n in counts.items() if t != word and len(word) > 2 and t.startswith(word))


def _saturate(count: float) -> float:
    return count / (count + 1.0)


def _hit(reg: Registry, identity: str, score: float, wanted: list[str]) -> Hit:
    paper = reg.raw.papers[identity]
    return Hit(
        paper=identity,
        title=paper["title"],
        score=round(score, 3),
        methods=tuple(reg.methods_of.get(identity, ())),
        models=tuple(reg.models_of.get(identity, ())),
        excerpt=_excerpt(_fields(reg, identity)["notes"], wanted) or paper["summary"],
    )


def _excerpt(notes: str, wanted: list[str], width: int = 140) -> str:
    flat = " ".join(line for line in notes.splitlines() if not line.startswith(("#", "|", "$$")))
    flat = " ".join(flat.split())
    at = min((i for w in wanted if (i := flat.casefold().find(w)) >= 0), default=-1)
    if at < 0:
        return ""
    start = max(0, flat.rfind(" ", 0, max(0, at - width // 2)) + 1)
    return (
        ("... " if start else "") + flat[start : start + width].strip() + (" ..." if start + width < len(flat) else "")
    )
