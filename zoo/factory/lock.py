"""Resolve what the registry only names: sizes of models, timm's own records of tags."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zoo.factory.facts import COUNTS, TOP1, count_all, read_top1, top1_of
from zoo.factory.timm_bridge import record_of
from zoo.registry.lookup import registry

FORMAT = 1
COUNTED = "MACs are half the FLOPs of torch.utils.flop_counter: convolutions, matrix products, attention; one input of input_size"
_PIN = ("commit", "sha256", "size", "pin_source")


def compute(
    old: dict[str, Any],
    *,
    results: tuple[Path, str] | None = None,
    recount: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """A new lock: models and tags resolved offline; pins, published figures and what need not be counted again from ``old``.

    Models are built on the meta device; params are those of ``zoo.create(name)``, MACs and activations of one sample at the
    model's own input size (see ``zoo.factory.summary.cost``). Tags are counted the same way (see ``zoo.factory.facts``), which
    takes the better part of an hour for all of them; so their counts stay while timm's version and timm's record of
    the tag stay.

    Args:
        old: the lock as it is; may be empty.
        results: timm's ``results-imagenet.csv`` and the commit that it comes from; else the figures of ``old`` stay.
        recount: count every tag again.
        tell: called with the number of tags counted and to count.
    """
    import timm

    reg = registry()
    tags: set[str] = set()
    models = {}
    for name in sorted(reg.raw.models):
        models[name] = _model(name)
        tags.update(reg.raw.models[name].get("checkpoints", {}).get("timm", ()))
    weights = {m: found for m, r in sorted(reg.raw.methods.items()) if (found := _filed(r.get("weights")))}
    for found in weights.values():
        tags.update(found)
    kept, stated = old.get("timm", {}), {tag: _timm(tag) for tag in sorted(tags)}
    same_timm = old.get("timm_version") == timm.__version__ and not recount
    known = {
        tag: {k: kept[tag][k] for k in COUNTS if k in kept[tag]}
        for tag, record in stated.items()
        if same_timm and tag in kept and all(kept[tag].get(k) == v for k, v in record.items())
    }
    counts = count_all((t for t, r in stated.items() if "missing" not in r), known, tell or (lambda done, total: None))
    facts = dict(old.get("facts", {}))
    if not facts.get("counts") or any(not known.get(tag) for tag in counts):
        facts["counts"] = {"what": COUNTED, "torch": str(torch.__version__).partition("+")[0]}
    top1 = {tag: {k: r[k] for k in TOP1 if k in r} for tag, r in kept.items()}
    if results is not None:
        table, facts["top1"] = read_top1(*results)
        top1 = {tag: top1_of(table.get(tag, {}), r.get("input_size", [0, 0])[1]) for tag, r in stated.items()}
    records = {
        tag: {
            **record,
            **counts.get(tag, {}),
            **top1.get(tag, {}),
            **{k: kept[tag][k] for k in _PIN if tag in kept and k in kept[tag]},
        }
        for tag, record in stated.items()
    }
    return {
        "format": FORMAT,
        "timm_version": timm.__version__,
        "facts": facts,
        "models": models,
        "timm": records,
        "weights": weights,
    }


def _model(name: str) -> dict[str, Any]:
    import zoo
    from zoo.factory.summary import cost, input_size_of

    with torch.device("meta"):
        model = zoo.create(name)
    size = input_size_of(model)
    if name in registry().raw.models and (own := _declared_input(name)):
        size = own
    return {"params": sum(p.numel() for p in model.parameters()), **cost(model, size), "input": list(size)}


def _declared_input(name: str) -> tuple[int, ...] | None:
    checkpoints = registry().model(name).checkpoints
    for checkpoint in (*checkpoints.bundled, *checkpoints.hub):
        if checkpoint.input is not None:
            return checkpoint.input.size
    return None


def _timm(tag: str) -> dict[str, Any]:
    """timm's own record of a tag; a licence that it does not state stays None."""
    import timm

    cfg = record_of(tag)
    if cfg is None:
        return {"missing": f"timm {timm.__version__} does not know this tag"}
    record = {
        "architecture": tag.split(".", 1)[0],
        "hub_id": cfg.hf_hub_id and (cfg.hf_hub_id + tag if cfg.hf_hub_id.endswith("/") else cfg.hf_hub_id),
        "licence": cfg.license or None,
        "input_size": list(cfg.input_size),
        "test_input_size": list(cfg.test_input_size) if cfg.test_input_size else None,
        "num_classes": cfg.num_classes,
        "mean": list(cfg.mean),
        "std": list(cfg.std),
        "interpolation": cfg.interpolation,
        "crop_pct": cfg.crop_pct,
        "origin": cfg.origin_url or None,
    }
    return {k: v for k, v in record.items() if v is not None}


def _filed(weights: dict[str, Any] | None) -> list[str]:
    """timm tags that a method's patterns name, in natural order."""
    if not weights:
        return []
    import timm

    tags = timm.list_pretrained()
    found = [t for t in tags if any(fnmatch.fnmatchcase(t, p) for p in weights.get("timm", ()))]
    return [t for t in found if not any(fnmatch.fnmatchcase(t, p) for p in weights.get("exclude", ()))]


def pin_all(lock: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``lock`` with commit, SHA-256 and size of every timm tag as the Hub declares them; problems stop only their own tag.

    A tag that is pinned already must agree with the Hub, which is one of the problems otherwise.
    """
    from zoo.errors import WeightsError
    from zoo.hub.lock import resolve_all
    from zoo.hub.source import Source

    sources, problems = {}, []
    for tag, record in lock["timm"].items():
        if not record.get("hub_id"):
            continue
        cfg = {"hf_hub_id": record["hub_id"], "license": record.get("licence")}
        try:
            sources[tag] = Source.from_timm(record["architecture"], tag, cfg, record if record.get("sha256") else None)
        except WeightsError as error:
            problems.append(str(error))
    pins, failed = resolve_all(sources.values())
    timm = {}
    for tag, record in lock["timm"].items():
        pin = pins.get(sources[tag].key) if tag in sources else None
        timm[tag] = {**record, **(pin or {})}
    return {**lock, "timm": timm}, [*problems, *failed]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One line for every record that differs."""
    changes = []
    for section in ("models", "timm", "weights"):
        a, b = old.get(section, {}), new[section]
        changes += [f"- {section}.{n}" for n in a if n not in b]
        changes += [f"+ {section}.{n}" for n in b if n not in a]
        for n in b:
            if n in a and a[n] != b[n]:
                if isinstance(b[n], dict):
                    fields = [f for f in {**a[n], **b[n]} if a[n].get(f) != b[n].get(f)]
                    changes.append(
                        f"~ {section}.{n}: {', '.join(f'{f} {a[n].get(f)} -> {b[n].get(f)}' for f in fields)}"
                    )
                else:
                    changes.append(f"~ {section}.{n}")
    for name, value in new["facts"].items():
        if old.get("facts", {}).get(name) != value:
            changes.append(f"~ facts.{name}: {old.get('facts', {}).get(name)} -> {value}")
    if old.get("timm_version") != new["timm_version"]:
        changes.append(f"~ timm {old.get('timm_version')} -> {new['timm_version']}")
    return changes
