"""Every known set of weights as one flat record: those that models declare, and timm's tags that realise a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.registry.licences import licence_class

if TYPE_CHECKING:
    from zoo.registry.lookup import Registry


def collect(reg: Registry) -> dict[str, dict[str, Any]]:
    """Id -> record. timm's tags go by their own name, declared checkpoints by ``model.tag``.

    A record has ``source`` (timm, hub, bundled), ``architecture``, ``models`` (of the registry, that name it), ``methods`` (that
    it realises), ``papers``, ``licence``, ``input_size``, ``num_classes``, ``params``, ``macs``, ``top1`` (ImageNet-1k, at
    ``top1_size``), ``hub_id``, ``pinned``. What nobody has said is None; a licence is ``"unknown"`` then.
    """
    found: dict[str, dict[str, Any]] = {}
    methods: dict[str, list[str]] = {}
    for method, tags in reg.lock["weights"].items():
        if method in reg.raw.methods:
            for tag in tags:
                methods.setdefault(tag, []).append(method)
    models: dict[str, list[str]] = {}
    for model, record in reg.raw.models.items():
        for tag in record.get("checkpoints", {}).get("timm", ()):
            models.setdefault(tag, []).append(model)
    for tag in dict.fromkeys([*reg.lock["timm"], *models, *methods]):
        found[tag] = _of_timm(reg, tag, models.get(tag, []), methods.get(tag, []))
    for model, record in reg.raw.models.items():
        for source in ("hub", "bundled"):
            for checkpoint in record.get("checkpoints", {}).get(source, ()):
                found[f"{model}.{checkpoint['tag']}"] = _declared(reg, model, source, checkpoint)
    return found


def _of_timm(reg: Registry, tag: str, models: list[str], methods: list[str]) -> dict[str, Any]:
    known = reg.lock["timm"].get(tag, {})
    inside = [m for model in models for m in _methods_in(reg, model)]
    return {
        "source": "timm",
        "architecture": tag.partition(".")[0],
        "models": models,
        **_filed(reg, [*inside, *methods], models),
        "licence": known.get("licence") or "unknown",
        **{
            field: known.get(field)
            for field in ("input_size", "num_classes", "params", "macs", "top1", "top1_size", "hub_id")
        },
        "pinned": bool(known.get("sha256") and known.get("commit")),
    }


def _declared(reg: Registry, model: str, source: str, checkpoint: dict[str, Any]) -> dict[str, Any]:
    resolved = reg.lock["models"].get(model, {})
    top1 = next((m["value"] for m in checkpoint.get("metrics", ()) if _is_imagenet_top1(m)), None)
    size = (checkpoint.get("input") or {}).get("size")
    return {
        "source": source,
        "architecture": reg.raw.models[model]["backbone"],
        "models": [model],
        **_filed(reg, _methods_in(reg, model), [model]),
        "licence": checkpoint["licence"],
        "input_size": list(size) if size else None,
        "num_classes": checkpoint.get("classes"),
        "params": resolved.get("params"),
        "macs": resolved.get("macs"),
        "top1": top1,
        "top1_size": size[1] if size and top1 is not None else None,
        "hub_id": checkpoint.get("repo"),
        "pinned": bool(checkpoint.get("sha256") and (checkpoint.get("commit") or source == "bundled")),
    }


def _is_imagenet_top1(metric: dict[str, Any]) -> bool:
    return metric["name"].casefold() in {"top1", "top-1"} and metric["dataset"].casefold().startswith("imagenet")


def _methods_in(reg: Registry, model: str) -> list[str]:
    """Swapped methods, and those of the papers that the model names where a paper has one of its own name or one only."""
    from zoo.registry.specs import spec_name

    swapped = [spec_name(spec) for spec in reg.raw.models[model].get("swaps", {}).values()]
    of_papers = [(p, reg.methods_of.get(p, [])) for p in reg.raw.models[model].get("papers", ())]
    return [*swapped, *(m[0] for p, m in of_papers if m and (len(m) == 1 or m[0] == p))]


def _filed(reg: Registry, methods: list[str], models: list[str]) -> dict[str, list[str]]:
    unique = list(dict.fromkeys(methods))
    papers = [reg.raw.methods[m]["paper"] for m in unique] + [p for m in models for p in reg.papers_of_model[m]]
    return {"methods": unique, "papers": list(dict.fromkeys(papers))}


def licences(record: dict[str, Any]) -> list[str]:
    """The licence of a record and its class, both to filter by."""
    return [record["licence"], licence_class(record["licence"])]
