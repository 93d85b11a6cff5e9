"""Everything that is known under one name, as one typed record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.registry.cite import bibtex
from zoo.registry.lookup import Registry, What
from zoo.registry.schema import Checkpoint, Evidence, Method, Model, Paper
from zoo.registry.search import _notes


@dataclass(frozen=True)
class Info:
    """What ``zoo.info(name)`` returns.

    Attributes:
        name: the id that the given name means.
        what: ``method``, ``model`` or ``paper``.
        paper: the paper; of a model, that of its first method.
        papers: all papers behind it.
        method: the method, or None.
        model: the model, or None.
        methods: methods of the paper(s).
        models: models that realise the paper(s).
        resolved: what the lock file holds about a model: params, MACs, activations, input, and a record a tag.
    """

    name: str
    what: What
    paper: Paper
    papers: tuple[Paper, ...]
    method: Method | None
    model: Model | None
    methods: tuple[str, ...]
    models: tuple[str, ...]
    resolved: dict[str, Any]
    _registry: Registry

    @property
    def evidence(self) -> Evidence:
        """What was measured for the paper: parity errors and claims, each with date and environment."""
        return self._registry.evidence(self.paper.id)

    @property
    def status(self) -> str:
        return self.evidence.status

    @property
    def notes(self) -> str:
        """The catalog page's Markdown below the front matter."""
        page = self._registry.page(self.paper.id)
        return _notes(page, page.stat().st_mtime_ns) if page.is_file() else ""

    @property
    def bibtex(self) -> str:
        return "\n".join(bibtex(p.model_dump(mode="json")) for p in self.papers)

    @property
    def checkpoints(self) -> tuple[Checkpoint | dict[str, Any], ...]:
        """Declared checkpoints, and the resolved record of each timm tag (``pinned`` says whether bytes are pinned)."""
        if self.model is None:
            return ()
        own = self.model.checkpoints
        tags = [{"tag": t.split(".", 1)[1], **self._registry.lock["timm"].get(t, {})} for t in own.timm]
        return (*tags, *own.hub, *own.bundled)


def info(reg: Registry, name: str) -> Info:
    """See ``zoo.info``."""
    what, identity = reg.resolve(name)
    method = model = None
    if what == "paper":
        papers = [identity]
        methods = reg.methods_of.get(identity, [])
        if methods and (len(methods) == 1 or methods[0] == identity):
            method = reg.method(methods[0])
    elif what == "method":
        method = reg.method(identity)
        papers, methods = [method.paper], reg.methods_of[method.paper]
    else:
        model = reg.model(identity)
        papers = reg.papers_of_model[identity]
        methods = [m for p in papers for m in reg.methods_of.get(p, ())]
    models = list(dict.fromkeys(m for p in papers for m in reg.models_of.get(p, ())))
    return Info(
        name=identity,
        what=what,
        paper=reg.paper(papers[0]),
        papers=tuple(reg.paper(p) for p in papers),
        method=method,
        model=model,
        methods=tuple(methods),
        models=tuple(models),
        resolved=dict(reg.lock["models"].get(identity, {})) if model else {},
        _registry=reg,
    )
