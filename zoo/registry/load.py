"""Read and validate registry and catalog, with a per-file cache of what was valid.

The first load parses YAML and validates with pydantic; what passed is kept as JSON under the user's cache,
keyed by each file's path, size and modification time, so that the next one only parses what changed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import RegistryError
from zoo.registry.files import PACKAGE, cache_dir, data_root, write_atomic

FORMAT = 3  # raise when the form of cached records changes
SECTIONS = ("## Method", "## When to use it", "## Where re-implementations go wrong")


class Raw(NamedTuple):
    """Validated records as plain dicts (defaults left out), with the file that each came from."""

    papers: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    files: dict[str, str]  # "methods.group_norm" -> shown file


def _signature(entry: os.stat_result) -> list[int]:
    return [entry.st_mtime_ns, entry.st_size]


def _pages(root: Path) -> list[tuple[str, Path]]:
    found = []
    catalog = root / "catalog"
    if not catalog.is_dir():
        raise RegistryError([f"{catalog}:1: cannot be read: there is no such folder of catalog pages"])
    with os.scandir(catalog) as folders:
        for folder in folders:
            if folder.is_dir():
                with os.scandir(folder.path) as files:
                    found += [
                        (f"catalog/{folder.name}/{f.name}", Path(f.path)) for f in files if f.name.endswith(".md")
                    ]
    return sorted(found)


def load(root: Path | None = None, *, use_cache: bool = True) -> Raw:
    """Load ``registry.yaml`` and ``catalog/`` under ``root`` (default: what zoo ships).

    Raises:
        RegistryError: lists every problem as ``file:line: what, received, allowed, nearest``.
    """
    root = root or data_root()
    cache_file = cache_dir() / f"registry-{FORMAT}-{_tag(root)}.json"
    cached = _read_cache(cache_file) if use_cache else {}
    sources = [("registry.yaml", root / "registry.yaml"), *_pages(root)]

    entries: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    fresh = False
    for shown, path in sources:
        try:
            signature = _signature(path.stat())
        except OSError as error:
            problems.append(f"{shown}:1: cannot be read: {error.strerror}")
            continue
        hit = cached.get(shown)
        if hit is not None and hit["sig"] == signature:
            entries[shown] = hit
            continue
        fresh = True
        try:
            data = _read_registry(path, shown) if shown == "registry.yaml" else _read_page(path, shown)
            entries[shown] = {"sig": signature, "data": data}
        except RegistryError as error:
            problems += error.problems
    if problems:
        raise RegistryError(problems)

    raw = _assemble(entries)
    if fresh or len(entries) != len(cached):
        from zoo.registry.checks import cross_check

        if problems := cross_check(raw, root):
            raise RegistryError(problems)
        if use_cache:
            _write_cache(cache_file, entries)
    return raw


def _assemble(entries: dict[str, dict[str, Any]]) -> Raw:
    raw = Raw({}, {}, {}, {})
    for shown, entry in entries.items():
        if shown == "registry.yaml":
            for section in ("methods", "models"):
                getattr(raw, section).update(entry["data"][section])
                raw.files.update({f"{section}.{name}": shown for name in entry["data"][section]})
        else:
            paper = entry["data"]
            key = f"papers.{paper['id']}"
            if key in raw.files:
                raise RegistryError(
                    [f"{shown}:1: paper {paper['id']!r} already stands in {raw.files[key]}; an id is used once"]
                )
            raw.papers[paper["id"]] = paper
            raw.files[key] = shown
    return raw


# --------------------------------------------------------------------------- the cache of valid records


def _tag(root: Path) -> str:
    import hashlib

    # The schema decides what is valid: another schema, another cache.
    schema = (PACKAGE / "registry" / "schema.py").stat()
    return hashlib.sha256(f"{root}|{schema.st_mtime_ns}|{schema.st_size}".encode()).hexdigest()[:16]


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            data = json.loads(file.read())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def _write_cache(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    # A read-only home only costs the next start some milliseconds.
    with contextlib.suppress(OSError):
        write_atomic(path, json.dumps(entries, separators=(",", ":")))


# --------------------------------------------------------------------------- one file


def _read_page(path: Path, shown: str) -> dict[str, Any]:
    from zoo.registry.schema import Paper
    from zoo.registry.yaml_io import front_matter, parse, read_text

    text = read_text(path, shown)
    head, notes = front_matter(text, shown)
    data = parse(head, shown, first_line=2)
    if not isinstance(data, dict):
        raise RegistryError([f"{shown}:2: front matter is a mapping of fields, received {type(data).__name__}"])
    category, stem = shown.split("/")[1], path.stem
    for own in ("id", "category"):
        if own in data:
            raise RegistryError([f"{shown}:2: {own!r} comes from the path of the page; remove it"])
    record = validate(Paper, {**data, "id": stem, "category": category}, head, shown, (), first_line=2)
    missing = [s for s in SECTIONS if f"\n{s}\n" not in f"\n{notes}\n"]
    if missing:
        line = text.count("\n", 0, len(text) - len(notes)) + 1
        raise RegistryError([f"{shown}:{line}: the notes have no section {', '.join(map(repr, missing))}"])
    return record


def _read_registry(path: Path, shown: str) -> dict[str, Any]:
    from zoo.registry.yaml_io import parse, read_text

    text = read_text(path, shown)
    return registry_data(parse(text, shown), text, shown)


def registry_data(data: Any, text: str, shown: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Validate the sections ``methods`` and ``models`` of a parsed registry file."""
    from zoo.registry.schema import Method, Model, RegistryFile

    validate(RegistryFile, data if data is not None else {}, text, shown, ())
    problems: list[str] = []
    sections: dict[str, dict[str, dict[str, Any]]] = {"methods": {}, "models": {}}
    for section, schema in (("methods", Method), ("models", Model)):
        for name, fields in (data or {}).get(section, {}).items():
            try:
                if "id" in fields:
                    raise RegistryError(
                        [f"{shown}:{_line(text, (section, name, 'id'), 1)}: 'id' is the key of the entry; remove it"]
                    )
                sections[section][name] = validate(schema, {**fields, "id": name}, text, shown, (section, name))
            except RegistryError as error:
                problems += error.problems
    if problems:
        raise RegistryError(problems)
    return sections


def validate(
    schema: Any, data: Any, text: str, shown: str, prefix: tuple[str, ...], first_line: int = 1
) -> dict[str, Any]:
    """Validate one record; return it as plain JSON types without defaults."""
    from pydantic import ValidationError

    try:
        return schema.model_validate(data).model_dump(mode="json", exclude_defaults=True)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            loc = tuple(s for s in item["loc"] if not (isinstance(s, str) and ("[" in s or s in _UNION_TAGS)))
            line = _line(text, (*prefix, *loc), first_line)
            lines.append(f"{shown}:{line}: {'.'.join(map(str, (*prefix, *loc)))}: {_explain(schema, item)}")
        raise RegistryError(dict.fromkeys(lines)) from None


_UNION_TAGS = {"str", "int", "float", "bool", "none", "constrained-str"}


def _line(text: str, path: tuple[int | str, ...], first_line: int) -> int:
    from zoo.registry.yaml_io import line_of

    return line_of(text, path, first_line)


def _explain(schema: Any, item: Any) -> str:
    from zoo.errors import suggestion

    received = item.get("input")
    shown = repr(received) if len(repr(received)) <= 80 else repr(received)[:77] + "..."
    kind = item["type"]
    if kind == "extra_forbidden":
        name = str(item["loc"][-1])
        fields = list(_fields_at(schema, item["loc"][:-1]))
        allowed = f" Allowed: {', '.join(fields)}." if fields else ""
        return f"unknown key {name!r}.{suggestion(name, fields)}{allowed}"
    if kind == "missing":
        return "required, but not given"
    if kind == "literal_error":
        expected = item["ctx"]["expected"]
        options = [o.strip().strip("'") for o in expected.replace(" or ", ", ").split(",")]
        return f"received {shown}.{suggestion(str(received), options)} Allowed: {', '.join(options)}."
    if kind == "string_type" and isinstance(received, int | float):
        return f"received the number {shown}, a text is needed: put it in quotes"
    if kind == "string_pattern_mismatch":
        return f"received {shown}, which does not have the form {item['ctx']['pattern']}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{message}; received {shown}" if not message.startswith("received") else message


def _fields_at(schema: Any, loc: Iterable[int | str]) -> Iterable[str]:
    """Field names of the record that ``loc`` leads to; empty where that is no record."""
    import typing

    current = schema
    for step in loc:
        if isinstance(step, int) or not hasattr(current, "model_fields"):
            continue
        field = current.model_fields.get(step)
        if field is None:
            return ()
        candidates, stack = [], [field.annotation]
        while stack:
            annotation = stack.pop()
            if hasattr(annotation, "model_fields"):
                candidates.append(annotation)
            stack += typing.get_args(annotation)
        current = candidates[0] if candidates else None
    return list(current.model_fields) if hasattr(current, "model_fields") else ()
