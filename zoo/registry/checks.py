"""Cross-checks that one record alone cannot fail: names, references, swaps. Nothing is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import key, suggestion
from zoo.registry.schema import RELATIONS, SWAPPABLE, split_spec

if TYPE_CHECKING:
    from zoo.registry.load import Raw


def cross_check(raw: Raw, root: Path | None = None) -> list[str]:
    """Every problem between records, as ``file:line: text``; an empty list when registry and catalog agree."""
    where = _Where(raw, root)
    return [*_names(raw, where), *_papers(raw, where), *_methods(raw, where), *_models(raw, where)]


class _Where:
    """``file:line`` of an entry; files are only read again when there is something to report."""

    def __init__(self, raw: Raw, root: Path | None) -> None:
        self.raw, self.root, self.texts = raw, root, {}  # type: ignore[var-annotated]

    def __call__(self, section: str, name: str, *path: str) -> str:
        from zoo.registry.yaml_io import front_matter, line_of

        shown = self.raw.files.get(f"{section}.{name}", "registry.yaml")
        file = (self.root / shown) if self.root else Path(shown)
        if shown not in self.texts:
            try:
                text = file.read_text(encoding="utf-8")
                self.texts[shown] = front_matter(text, shown)[0] if shown.endswith(".md") else text
            except OSError:
                self.texts[shown] = ""
        if shown.endswith(".md"):
            return f"{shown}:{line_of(self.texts[shown], path, 2)}: {'.'.join(path) or 'paper'}"
        return f"{shown}:{line_of(self.texts[shown], (section, name, *path))}: {'.'.join((section, name, *path))}"


def paper_names(paper: Mapping[str, Any]) -> Iterable[str]:
    yield paper["id"]
    yield from paper.get("aliases", ())


def _names(raw: Raw, where: _Where) -> Iterable[str]:
    taken: dict[str, tuple[str, str, str]] = {}  # folded -> (section, id, as written)
    for section, records in (("methods", raw.methods), ("models", raw.models)):
        for name, record in records.items():
            for written in (name, *record.get("aliases", ())):
                other = taken.setdefault(key(written), (section, name, written))
                if other[:2] != (section, name):
                    yield (
                        f"{where(section, name)}: the name {written!r} is taken by {other[0]}.{other[1]} ({other[2]!r}); case "
                        "and separators do not count"
                    )
                elif other[2] != written:
                    yield (
                        f"{where(section, name)}: {written!r} and {other[2]!r} are the same name; case and separators do not "
                        "count"
                    )
    own: dict[str, set[str]] = {}
    for name, method in raw.methods.items():
        own.setdefault(method["paper"], set()).add(name)
    papers: dict[str, str] = {}
    arxiv: dict[str, str] = {}
    for identity, paper in raw.papers.items():
        for written in paper_names(paper):
            folded = key(written)
            first = papers.setdefault(folded, identity)
            if first != identity:
                yield (
                    f"{where('papers', identity)}: the name {written!r} is taken by paper {first!r}; case and separators "
                    "do not count"
                )
            if folded in taken:
                section, name, _ = taken[folded]
                if section != "methods" or name not in own.get(identity, ()):
                    yield (
                        f"{where('papers', identity)}: the name {written!r} is taken by {section}.{name}, which is not a "
                        "method of this paper"
                    )
        if number := paper.get("arxiv"):
            first = arxiv.setdefault(number, identity)
            if first != identity:
                yield f"{where('papers', identity, 'arxiv')}: arXiv {number} already is paper {first!r}"


def _papers(raw: Raw, where: _Where) -> Iterable[str]:
    realised = {m["paper"] for m in raw.methods.values()} | {
        p for m in raw.models.values() for p in m.get("papers", ())
    }
    for identity, paper in raw.papers.items():
        if identity not in realised:
            yield f"{where('papers', identity)}: no method in the registry has paper: {identity}"
        for relation in RELATIONS:
            for other in paper.get("relations", {}).get(relation, {}):
                if other not in raw.papers:
                    yield (
                        f"{where('papers', identity, 'relations', relation)}: unknown paper "
                        f"{other!r}.{suggestion(other, raw.papers)}"
                    )
                elif other == identity:
                    yield f"{where('papers', identity, 'relations', relation)}: a paper is not related to itself"


def _methods(raw: Raw, where: _Where) -> Iterable[str]:
    for name, method in raw.methods.items():
        if method["paper"] not in raw.papers:
            yield (
                f"{where('methods', name, 'paper')}: unknown paper "
                f"{method['paper']!r}.{suggestion(method['paper'], raw.papers)}"
            )
        if method.get("variants") and method["kind"] != "norm":
            yield f"{where('methods', name, 'variants')}: only kind norm has variants, this is kind {method['kind']}"


def _models(raw: Raw, where: _Where) -> Iterable[str]:
    for name, model in raw.models.items():
        for swap, spec in model.get("swaps", {}).items():
            method_name, _ = split_spec(spec)
            method = raw.methods.get(method_name)
            wanted = SWAPPABLE[swap]
            of_kind = [m for m, r in raw.methods.items() if r["kind"] == wanted]
            at = where("models", name, "swaps", swap)
            if method is None:
                yield f"{at}: unknown method {method_name!r}.{suggestion(method_name, of_kind)}"
            elif method["kind"] != wanted:
                yield (
                    f"{at}: {method_name!r} is of kind {method['kind']}, {swap} takes kind "
                    f"{wanted}.{suggestion(method_name, of_kind)}"
                )
        for paper in model.get("papers", ()):
            if paper not in raw.papers:
                yield f"{where('models', name, 'papers')}: unknown paper {paper!r}.{suggestion(paper, raw.papers)}"
