"""What lists can be filtered by. Each field is a function of the registry and an id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.registry.checkpoints import licences
from zoo.registry.licences import licence_class

if TYPE_CHECKING:
    from zoo.registry.lookup import Registry

Field = Callable[["Registry", str], Any]


def _model_licences(reg: Registry, model: str) -> list[str]:
    checkpoints = reg.raw.models[model].get("checkpoints", {})
    found = [c["licence"] for section in ("hub", "bundled") for c in checkpoints.get(section, ())]
    for tag in checkpoints.get("timm", ()):
        found.append(reg.lock["timm"].get(tag, {}).get("licence") or "unknown")
    return [*dict.fromkeys(found), *dict.fromkeys(licence_class(licence) for licence in found)]


def _model_pretrained(reg: Registry, model: str) -> bool:
    return any(reg.raw.models[model].get("checkpoints", {}).values())


def _paper_of(reg: Registry, method: str) -> dict[str, Any]:
    return reg.raw.papers[reg.raw.methods[method]["paper"]]


def _paper_models(reg: Registry, paper: str) -> list[str]:
    return reg.models_of.get(paper, [])


def _paper_pretrained(reg: Registry, paper: str) -> bool:
    if any(_model_pretrained(reg, m) for m in _paper_models(reg, paper)):
        return True
    return any(reg.lock["weights"].get(m) for m in reg.methods_of.get(paper, ()))


def _paper_licences(reg: Registry, paper: str) -> list[str]:
    found = [lic for m in _paper_models(reg, paper) for lic in _model_licences(reg, m)]
    for method in reg.methods_of.get(paper, ()):
        for tag in reg.lock["weights"].get(method, ()):
            licence = reg.lock["timm"].get(tag, {}).get("licence") or "unknown"
            found += [licence, licence_class(licence)]
    return list(dict.fromkeys(found))


def _paper(field: str, default: Any = None) -> Field:
    return lambda reg, paper: reg.raw.papers[paper].get(field, default)


def _method(field: str, default: Any = None) -> Field:
    return lambda reg, method: reg.raw.methods[method].get(field, default)


def _through_paper(field: Field) -> Field:
    return lambda reg, method: field(reg, reg.raw.methods[method]["paper"])


def _through_papers(field: Field) -> Field:
    def values(reg: Registry, model: str) -> list[Any]:
        return [field(reg, p) for p in reg.papers_of_model[model]]

    return values


def _locked(field: str) -> Field:
    return lambda reg, model: reg.lock["models"].get(model, {}).get(field)


PAPER: dict[str, Field] = {
    "category": _paper("category"),
    "kind": lambda reg, p: [reg.raw.methods[m]["kind"] for m in reg.methods_of.get(p, ())],
    "year": _paper("year"),
    "venue": _paper("venue"),
    "title": _paper("title"),
    "author": _paper("authors"),
    "tag": _paper("tags", []),
    "arxiv": _paper("arxiv"),
    "status": lambda reg, p: reg.status(p),
    "pretrained": _paper_pretrained,
    "licence": _paper_licences,
    "license": _paper_licences,
}
METHOD: dict[str, Field] = {
    "paper": _method("paper"),
    "kind": _method("kind"),
    "backing": lambda reg, m: reg.raw.methods[m]["target"].split(".")[0],
    "faithful_to": _method("faithful_to", "paper"),
    "needs": _method("needs", []),
    **{f: _through_paper(PAPER[f]) for f in ("category", "year", "venue", "author", "arxiv", "status", "tag")},
    "pretrained": _through_paper(_paper_pretrained),
    "licence": _through_paper(_paper_licences),
    "license": _through_paper(_paper_licences),
}
MODEL: dict[str, Field] = {
    "backbone": lambda reg, m: reg.raw.models[m]["backbone"],
    "paper": lambda reg, m: reg.papers_of_model[m],
    "pretrained": _model_pretrained,
    "licence": _model_licences,
    "license": _model_licences,
    "params": _locked("params"),
    "macs": _locked("macs"),
    **{f: _through_papers(PAPER[f]) for f in ("category", "year", "venue", "author", "arxiv", "status")},
    "kind": lambda reg, m: "model",
}


def _known(field: str) -> Field:
    return lambda reg, checkpoint: reg.checkpoints[checkpoint][field]


def _checkpoint_licences(reg: Registry, checkpoint: str) -> list[str]:
    return licences(reg.checkpoints[checkpoint])


CHECKPOINT: dict[str, Field] = {
    **{f: _known(f) for f in ("source", "architecture", "num_classes", "params", "macs", "top1", "pinned", "hub_id")},
    "model": _known("models"),
    "method": _known("methods"),
    "paper": _known("papers"),
    "category": lambda reg, c: [reg.raw.papers[p]["category"] for p in reg.checkpoints[c]["papers"]],
    "input_size": lambda reg, c: (reg.checkpoints[c]["input_size"] or [None, None])[1],
    "licence": _checkpoint_licences,
    "license": _checkpoint_licences,
}
FIELDS: dict[str, dict[str, Field]] = {"paper": PAPER, "method": METHOD, "model": MODEL, "checkpoint": CHECKPOINT}
