"""Registries of others, merged into the one in use: data from a file, code only from an installed package."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.errors import RegistryError, UnknownName
from zoo.registry.lookup import Registry, registry, use

GROUP = "zoo.registries"


def load_registry(source: str | Path) -> list[str]:
    """Merge a registry and return the names it adds; see ``zoo.load_registry``."""
    path = Path(source)
    is_file = path.suffix in {".yaml", ".yml"} or path.exists() or isinstance(source, Path)
    if is_file:
        return _merge(path, allow_code_from=None)
    entry_points = {e.name: e for e in metadata.entry_points(group=GROUP)}
    if str(source) not in entry_points:
        raise UnknownName(
            "registry", str(source), entry_points,
            f"Give the path of a .yaml file, or the name of an installed entry point of the group {GROUP!r}.",
        )  # fmt: skip
    entry = entry_points[str(source)]
    return _merge(Path(str(entry.load())), allow_code_from=entry.module.split(".")[0])


def _merge(path: Path, allow_code_from: str | None) -> list[str]:
    from zoo.registry.checks import cross_check
    from zoo.registry.load import Raw, _pages, _read_page, registry_data, validate
    from zoo.registry.schema import Paper, RegistryFile, allow_target_roots
    from zoo.registry.yaml_io import parse, read_text

    shown = str(path)
    text = read_text(path, shown)
    data: Any = parse(text, shown)
    if not isinstance(data, dict):
        raise RegistryError(
            [f"{shown}:1: a registry is a mapping with papers, methods or models, received {type(data).__name__}"]
        )
    unknown = set(data) - {"papers", *RegistryFile.model_fields}
    if unknown:
        raise RegistryError([f"{shown}:1: unknown section {sorted(unknown)[0]!r}. Allowed: papers, methods, models."])
    if data.get("methods") and allow_code_from is None:
        raise RegistryError([
            f"{shown}:1: a registry file holds data only (papers, models, checkpoints over methods that exist); "
            "methods come from an "
            f"installed package through the entry point group {GROUP!r}"
        ])  # fmt: skip
    old = registry()
    code_from = (*old.code_from, *((allow_code_from,) if allow_code_from else ()))
    with allow_target_roots(code_from):
        sections = registry_data({k: v for k, v in data.items() if k != "papers"}, text, shown)
    papers = {}
    for name, fields in (data.get("papers") or {}).items():
        if not isinstance(fields, dict):
            raise RegistryError([f"{shown}:1: papers.{name} is a mapping of fields, received {fields!r}"])
        papers[name] = validate(Paper, {**fields, "id": name}, text, shown, ("papers", name))
    roots = {}
    if (path.parent / "catalog").is_dir() and allow_code_from is not None:
        for page_shown, page in _pages(path.parent):
            record = _read_page(page, page_shown)
            papers[record["id"]] = record
            roots[record["id"]] = path.parent
    added = {"papers": papers, **sections}
    raw = Raw(dict(old.raw.papers), dict(old.raw.methods), dict(old.raw.models), dict(old.raw.files))
    taken = [
        f"{shown}:1: {s}.{n} already exists in {old.raw.files.get(f'{s}.{n}')}"
        for s, new in added.items()
        for n in new
        if n in getattr(raw, s)
    ]
    if taken:
        raise RegistryError(taken)
    for section, new in added.items():
        getattr(raw, section).update(new)
        raw.files.update({f"{section}.{name}": shown for name in new})
    if problems := cross_check(raw, old.root):
        raise RegistryError(problems)
    merged = Registry(raw, old.root)
    merged.code_from = code_from
    merged.page_roots = {**old.page_roots, **{p: roots.get(p, path.parent) for p in papers}}
    use(merged)
    return [name for new in added.values() for name in new]
