"""The registry in memory: typed records, names, lists with filters."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import AmbiguousName, RegistryError, UnknownName, key
from zoo.registry.load import Raw, load

if TYPE_CHECKING:
    from zoo.registry.schema import Evidence, Method, Model, Paper

What = Literal["method", "model", "paper"]
Listed = Literal["method", "model", "paper", "checkpoint"]


class Registry:
    """Papers, methods and models under one set of names.

    Records are plain dicts until someone asks for one; then pydantic builds the typed record once.
    """

    raw: Raw
    root: Path

    def __init__(self, raw: Raw, root: Path) -> None:
        self.raw = raw
        self.root = root
        self.page_roots: dict[str, Path] = {}  # papers of merged registries live elsewhere
        self.code_from: tuple[str, ...] = ()  # packages that the user allowed by their entry points

    # ------------------------------------------------------------------ typed records

    def paper(self, identity: str) -> Paper:
        from zoo.registry.schema import Paper

        return self._typed("paper", Paper, self.raw.papers, identity)

    def method(self, identity: str) -> Method:
        from zoo.registry.schema import Method

        return self._typed("method", Method, self.raw.methods, identity)

    def model(self, identity: str) -> Model:
        from zoo.registry.schema import Model

        return self._typed("model", Model, self.raw.models, identity)

    def _typed(self, what: str, schema: Any, records: dict[str, dict[str, Any]], identity: str) -> Any:
        if identity not in records:
            raise UnknownName(what, identity, records)
        return _build(schema, json.dumps(records[identity], sort_keys=True), self.code_from)

    # ------------------------------------------------------------------ relations between records

    @cached_property
    def methods_of(self) -> dict[str, list[str]]:
        """Paper id -> its methods; the one that carries the paper's own name first."""
        found: dict[str, list[str]] = {}
        for name, method in self.raw.methods.items():
            found.setdefault(method["paper"], []).append(name)
        return {paper: sorted(names, key=lambda n: n != paper) for paper, names in found.items()}

    @cached_property
    def papers_of_model(self) -> dict[str, list[str]]:
        """Model id -> the papers that it realises: of its swapped methods, then those named."""
        from zoo.registry.specs import spec_name

        found = {}
        for name, model in self.raw.models.items():
            swapped = [self.raw.methods[spec_name(s)]["paper"] for s in model.get("swaps", {}).values()]
            found[name] = list(dict.fromkeys([*swapped, *model.get("papers", ())]))
        return found

    @cached_property
    def models_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, papers in self.papers_of_model.items():
            for paper in papers:
                found.setdefault(paper, []).append(name)
        return found

    @cached_property
    def lock(self) -> dict[str, Any]:
        """``registry.lock.json``: what was resolved; empty sections where it is missing."""
        path = self.root / "registry.lock.json"
        try:
            return {"models": {}, "timm": {}, "weights": {}, **json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return {"models": {}, "timm": {}, "weights": {}}
        except ValueError as error:
            raise RegistryError([f"registry.lock.json:1: not JSON ({error}); write it again with `zoo lock`"]) from None

    @cached_property
    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """Every known set of weights by id, as flat records: see ``zoo.registry.checkpoints.collect``."""
        from zoo.registry.checkpoints import collect

        return collect(self)

    def page(self, paper: str) -> Path:
        """The catalog page of a paper."""
        root = self.page_roots.get(paper, self.root)
        return root / "catalog" / self.raw.papers[paper]["category"] / f"{paper}.md"

    def evidence(self, paper: str) -> Evidence:
        """What was measured for a paper; empty when nothing was."""
        from zoo.registry.schema import Evidence

        path = self.page(paper).with_suffix(".evidence.json")
        if not path.is_file():
            return Evidence(paper=paper)
        try:
            return Evidence.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise RegistryError([f"{path.name}:1: {error}; write it again with `zoo reproduce {paper}`"]) from None

    def status(self, paper: str) -> str:
        """Worst status over the claims that were run, without building records: see ``Evidence.status``."""
        path = self.page(paper).with_suffix(".evidence.json")
        try:
            found = {c["status"] for c in json.loads(path.read_bytes()).get("claims", {}).values()}
        except (OSError, ValueError, KeyError, TypeError):
            return "not run"
        return next((s for s in ("refuted", "partly", "reproduced") if s in found), "not run")

    # ------------------------------------------------------------------ names

    @cached_property
    def names(self) -> dict[str, tuple[What, str]]:
        """Folded name -> what carries it; a paper's name that is also its method's leads to the method."""
        table: dict[str, tuple[What, str]] = {}
        sections: tuple[tuple[What, dict[str, dict[str, Any]]], ...] = (
            ("paper", self.raw.papers), ("model", self.raw.models), ("method", self.raw.methods),
        )  # fmt: skip
        for what, records in sections:
            for identity, record in records.items():
                for written in (identity, *record.get("aliases", ())):
                    table[key(written)] = (what, identity)
        return table

    def all_names(self) -> list[str]:
        """Every id and alias as written."""
        written = []
        for records in (self.raw.methods, self.raw.models, self.raw.papers):
            for identity, record in records.items():
                written += [identity, *record.get("aliases", ())]
        return list(dict.fromkeys(written))

    def find(self, name: str) -> tuple[What, str] | None:
        """As :meth:`resolve`, but None for a name that nothing carries (near names cost more than the look-up)."""
        if not isinstance(name, str) or not name.strip():
            raise UnknownName("name", repr(name), (), "A name is a non-empty text such as 'group_norm'.")
        hit = self.names.get(key(name))
        if hit is not None:
            return hit
        paper = self._find_paper(name)
        return ("paper", paper) if paper is not None else None

    def resolve(self, name: str) -> tuple[What, str]:
        """What a name means: its id or an alias, case and separators ignored, or an arXiv id, DOI or title.

        Raises:
            UnknownName: nothing is called so; has the nearest names.
            AmbiguousName: a part of several titles.
        """
        hit = self.find(name)
        if hit is not None:
            return hit
        raise UnknownName("name", name, self.all_names(), "zoo.search(text) looks through titles, authors and notes.")

    def resolve_paper(self, text: str) -> str:
        """Paper id from an id, alias, method, arXiv id (``arXiv:1803.08494v3`` too), DOI or title."""
        hit = self.names.get(key(text))
        if hit is not None and hit[0] == "paper":
            return hit[1]
        if hit is not None and hit[0] == "method":
            return str(self.raw.methods[hit[1]]["paper"])
        paper = self._find_paper(text)
        if paper is None:
            titles = [p["title"] for p in self.raw.papers.values()]
            raise UnknownName(
                "paper", text, [*self.raw.papers, *titles], "A paper is named by id, alias, arXiv id, DOI or title."
            )
        return paper

    def _find_paper(self, text: str) -> str | None:
        number = re.sub(r"^(https?://arxiv\.org/(abs|pdf)/|arxiv:)|(v\d+)?(\.pdf)?$", "", text.strip(), flags=re.I)
        doi = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", text.strip(), flags=re.I).lower()
        folded = key(text)
        part = []
        for identity, paper in self.raw.papers.items():
            if paper.get("arxiv") == number or paper.get("doi", "").lower() == doi:
                return identity
            title = key(paper["title"])
            if title == folded:
                return identity
            if len(folded) > 5 and folded in title:
                part.append(identity)
        if len(part) > 1:
            raise AmbiguousName("Title", text, part, "Give the id, the arXiv id or more of the title.")
        return part[0] if part else None

    def method_for(self, name: str) -> str:
        """Method id that ``name`` means: a method, or a paper with one method (or one of the paper's own name)."""
        what, identity = self.resolve(name)
        if what == "method":
            return identity
        if what == "model":
            raise UnknownName("method", name, self.raw.methods, f"{identity!r} is a model.")
        return self.method_of_paper(identity)

    def method_of_paper(self, paper: str) -> str:
        methods = self.methods_of.get(paper, [])
        if len(methods) == 1 or (methods and methods[0] == paper):
            return methods[0]
        if not methods:
            models = self.models_of.get(paper, [])
            raise UnknownName("method of paper", paper, models, f"Its models: {', '.join(models) or 'none'}.")
        raise AmbiguousName("Paper", paper, methods, "Name the method.")

    # ------------------------------------------------------------------ lists

    def select(
        self, what: Listed, pattern: str | Iterable[str], exclude: str | Iterable[str], where: Mapping[str, Any]
    ) -> list[str]:
        from zoo.registry.fields import FIELDS

        records = (
            self.checkpoints
            if what == "checkpoint"
            else {"method": self.raw.methods, "model": self.raw.models, "paper": self.raw.papers}[what]
        )
        fields = FIELDS[what]
        for field in where:
            if field not in fields:
                raise UnknownName(f"filter for {what}s", field, fields, f"Filters: {', '.join(fields)}.")
        patterns, excluded = _patterns(pattern), _patterns(exclude)
        found = [
            identity
            for identity in records
            if any(fnmatch.fnmatchcase(identity, p) for p in patterns)
            and not any(fnmatch.fnmatchcase(identity, p) for p in excluded)
            and all(_matches(fields[f](self, identity), wanted) for f, wanted in where.items())
        ]
        return sorted(found, key=natural)


def natural(name: str) -> list[Any]:
    """Sort key under which ``resnet9`` comes before ``resnet50``."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _patterns(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _matches(value: Any, wanted: Any) -> bool:
    """One filter: a predicate, a range ``(low, high)`` of numbers, a set of values, a wildcard, or a value."""
    if callable(wanted):
        return bool(wanted(value))
    if isinstance(value, list | tuple | set):
        return any(_matches(v, wanted) for v in value)
    if isinstance(wanted, tuple) and len(wanted) == 2 and all(w is None or isinstance(w, int | float) for w in wanted):
        low, high = wanted
        return isinstance(value, int | float) and (low is None or value >= low) and (high is None or value <= high)
    if isinstance(wanted, list | tuple | set | frozenset):
        return any(_matches(value, w) for w in wanted)
    if isinstance(wanted, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value.casefold(), wanted.casefold())
    return bool(value == wanted)


@lru_cache(maxsize=4096)
def _build(schema: Any, text: str, code_from: tuple[str, ...]) -> Any:
    from zoo.registry.schema import allow_target_roots

    with allow_target_roots(code_from):
        return schema.model_validate_json(text)


_active: Registry | None = None
_listeners: list[Callable[[], None]] = []


def registry() -> Registry:
    """The registry in use: what zoo ships, plus what ``zoo.load_registry`` merged."""
    global _active
    if _active is None:
        from zoo.registry.files import data_root

        root = data_root()
        _active = Registry(load(root), root)
    return _active


def use(new: Registry | None) -> None:
    """Replace the registry in use; ``None`` makes the next call load what zoo ships."""
    global _active
    _active = new
