"""What every page needs: the registry with evidence and lock, committed data, and paths from page to page."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from zoo.registry.fields import PAPER
from zoo.registry.files import PACKAGE
from zoo.registry.licences import licence_class
from zoo.registry.lookup import Registry, natural
from zoo.registry.schema import CATEGORIES, Evidence, Method, Paper
from zoo.registry.search import _notes

TITLES = {
    "normalization": "Normalization",
    "weights": "Weights",
    "pooling": "Pooling",
    "convolution": "Convolution",
    "upsampling": "Upsampling",
    "activations": "Activations",
    "backward": "Backward pass",
    "optimizers": "Optimizers",
    "schedules": "Schedules",
    "augmentation": "Augmentation",
    "noisy_labels": "Noisy labels",
    "losses": "Losses and calibration",
    "long_tail": "Long tail",
    "distillation": "Distillation",
    "ensembles": "Ensembles",
    "memory": "Memory",
    "metric_learning": "Metric learning",
    "generative": "Generative models",
}
RELATION_WORDS = {
    "special_case_of": ("Special case of", "Has as special case"),
    "generalises": ("Generalises", "Generalised by"),
    "combines_with": ("Combines with", "Combines with"),
    "compared_with": ("Compared with", "Compared with"),
    "superseded_by": ("Superseded by", "Supersedes"),
}


@dataclass(frozen=True)
class Edge:
    """One typed relation between two papers, as the catalog states it."""

    source: str
    relation: str
    target: str
    reason: str


@dataclass(eq=False)
class Site:
    """Everything pages are made of. ``docs`` is the folder of hand-written pages and committed data."""

    reg: Registry
    docs: Path
    bench: Path
    problems: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ committed data, absent until somebody made it

    @cache  # noqa: B019 - one Site lives for one generation
    def data(self, name: str) -> dict[str, Any]:
        """``docs/data/<name>.json``, or an empty mapping; a broken file is reported, not hidden."""
        path = self.docs / "data" / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            self.problems.append(f"{path.name}: not JSON ({error})")
            return {}
        return found if isinstance(found, dict) else {"rows": found}

    @cached_property
    def curves(self) -> dict[str, Any]:
        return self.data("curves").get("methods", {})

    @cached_property
    def densities(self) -> dict[str, Any]:
        return self.data("densities").get("methods", {})

    @cached_property
    def signatures(self) -> dict[str, Any]:
        return self.data("signatures").get("targets", {})

    @cached_property
    def capabilities(self) -> dict[str, Any]:
        return self.data("capabilities")

    @cached_property
    def swap_matrix(self) -> dict[str, Any]:
        return self.data("swap_matrix")

    # ------------------------------------------------------------------ records

    @cached_property
    def papers(self) -> list[str]:
        """Paper ids in reading order: category, year, name."""
        raw = self.reg.raw.papers
        return sorted(raw, key=lambda p: (CATEGORIES.index(raw[p]["category"]), raw[p]["year"], natural(p)))

    @cached_property
    def models(self) -> list[str]:
        return sorted(self.reg.raw.models, key=natural)

    @cached_property
    def categories(self) -> list[str]:
        """Categories that hold a paper, in the registry's order."""
        used = {p["category"] for p in self.reg.raw.papers.values()}
        return [c for c in CATEGORIES if c in used]

    def in_category(self, category: str) -> list[str]:
        return [p for p in self.papers if self.reg.raw.papers[p]["category"] == category]

    @cache  # noqa: B019 - one Site lives for one generation
    def paper(self, identity: str) -> Paper:
        return self.reg.paper(identity)

    @cache  # noqa: B019 - one Site lives for one generation
    def _method(self, identity: str) -> Method:
        return self.reg.method(identity)

    def methods_of(self, paper: str) -> list[Method]:
        return [self._method(m) for m in self.reg.methods_of.get(paper, ())]

    @cache  # noqa: B019 - one Site lives for one generation
    def evidence(self, paper: str) -> Evidence:
        return self.reg.evidence(paper)

    def status(self, paper: str) -> str:
        return self.evidence(paper).status

    def notes(self, paper: str) -> str:
        page = self.reg.page(paper)
        try:
            return _notes(page, page.stat().st_mtime_ns)
        except OSError:
            return ""

    def kinds(self, paper: str) -> list[str]:
        return list(dict.fromkeys(self.reg.raw.methods[m]["kind"] for m in self.reg.methods_of.get(paper, ())))

    def pretrained(self, paper: str) -> bool:
        return bool(PAPER["pretrained"](self.reg, paper))

    def licence(self, paper: str) -> str:
        """Class of the checkpoints' licences: one word, ``mixed``, or ``none`` without checkpoints."""
        classes = {
            licence_class(name) for name in PAPER["licence"](self.reg, paper) if name not in ("permissive", "other")
        }
        if not classes:
            return "none"
        return classes.pop() if len(classes) == 1 else "mixed"

    def swap_kind(self, method: Method) -> str | None:
        """Keyword of ``zoo.create("resnet50", ...)`` that takes the method, or None."""
        from zoo.registry.schema import SWAPPABLE

        return next((k for k, kind in SWAPPABLE.items() if kind == method.kind), None)

    @cached_property
    def edges(self) -> list[Edge]:
        return [
            Edge(source, relation, target, reason)
            for source in self.papers
            for relation, targets in self.reg.raw.papers[source].get("relations", {}).items()
            for target, reason in targets.items()
            if target in self.reg.raw.papers
        ]

    # ------------------------------------------------------------------ paths

    def path_of(self, paper: str) -> str:
        return f"{self.reg.raw.papers[paper]['category']}/{paper}.md"

    def page_of(self, name: str) -> str | None:
        """Page of a paper, method or model id; None for any other word."""
        if name in self.reg.raw.methods:
            return self.path_of(self.reg.raw.methods[name]["paper"])
        if name in self.reg.raw.papers:
            return self.path_of(name)
        if name in self.reg.raw.models:
            return f"models/{name}.md"
        return None

    def linker(self, here: str):  # type: ignore[no-untyped-def]
        """For :func:`zoo.site.text.inline`: names in code spans become links, except to the page itself."""

        def link(name: str) -> str | None:
            page = self.page_of(name)
            return to(here, page) if page and page != here else None

        return link

    # ------------------------------------------------------------------ signatures without importing anything

    def parameters(self, target: str) -> dict[str, str] | None:
        """Parameter -> default as written (``required`` without one); None when the target cannot be read here."""
        if target.startswith("zoo."):
            return source_signature(target)
        found = self.signatures.get(target)
        return dict(found["parameters"]) if found else None


def to(here: str, there: str) -> str:
    """Relative link from page to page (both relative to the root of the docs)."""
    start, parts = here.split("/")[:-1], there.split("/")
    common = 0
    while common < min(len(start), len(parts)) and start[common] == parts[common]:
        common += 1
    return "/".join([".."] * (len(start) - common) + parts[common:]) or "."


#: A class or function at the top of a module, and a line that is no longer of it.
_TOP = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE)
_NEXT = re.compile(r"^[^\s#)\]}]", re.MULTILINE)


@lru_cache(maxsize=1024)
def source_signature(target: str) -> dict[str, str] | None:
    """Parameters of a class or function of zoo, read from its source."""
    module, _, name = target.partition(":")
    try:
        text = (PACKAGE.parent / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
        node = definition(text, name)
        for _ in range(8):
            if not isinstance(node, ast.ClassDef):
                break
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            if init is not None:
                node = init
                break
            base = next((b.id for b in node.bases if isinstance(b, ast.Name)), None)
            node = definition(text, base) if base else None
            if base and node is None:
                inherited = _inherited(ast.parse(text), base)
                return source_signature(inherited) if inherited else None
    except (OSError, SyntaxError):
        return None
    return _arguments(node.args) if isinstance(node, ast.FunctionDef) else None


def definition(text: str, name: str) -> ast.stmt | None:
    """Last class or function of that name at the top of a module, parsed without the rest of it where its lines can be told."""
    found = [m for m in _TOP.finditer(text) if m[1] == name]
    if not found:
        return None
    end = _NEXT.search(text, found[-1].end())
    try:
        return ast.parse(text[found[-1].start() : end.start() if end else len(text)]).body[0]
    except SyntaxError:  # a text in it that is not indented
        nodes = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name]
        return nodes[-1] if nodes else None


def _inherited(tree: ast.Module, base: str) -> str | None:
    for item in tree.body:
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("zoo."):
            for alias in item.names:
                if (alias.asname or alias.name) == base:
                    return f"{item.module}:{alias.name}"
    return None


def _arguments(args: ast.arguments) -> dict[str, str]:
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    pairs = list(zip(positional, [*defaults, *args.defaults], strict=True))
    pairs += list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    return {a.arg: ast.unparse(d) if d is not None else "required" for a, d in pairs if a.arg not in ("self", "cls")}
