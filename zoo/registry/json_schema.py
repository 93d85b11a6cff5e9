"""JSON Schema of what people write, made from the records."""

from __future__ import annotations

from typing import Any

SCHEMAS = ("registry", "page", "evidence")


def json_schema(what: str = "registry") -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``registry.yaml``, of a page's front matter, or of an evidence file."""
    from pydantic import TypeAdapter
    from typing_extensions import TypedDict

    from zoo.registry.schema import Evidence, Method, Model, Name, Paper

    title = {"registry": "registry.yaml of zoo", "page": "front matter of a catalog page", "evidence": "evidence file"}[
        what
    ]
    if what == "evidence":
        schema = Evidence.model_json_schema()
    elif what == "page":
        schema = _without(Paper.model_json_schema(), "id", "category")
    else:

        class Root(TypedDict, total=False):
            methods: dict[Name, Method]
            models: dict[Name, Model]

        schema = TypeAdapter(Root).json_schema()
        for name in ("Method", "Model"):
            schema["$defs"][name] = _without(schema["$defs"][name], "id")
        schema["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """The key of an entry, or the path of a page, gives these fields: they are not written."""
    properties = {k: v for k, v in schema["properties"].items() if k not in names}
    return {**schema, "properties": properties, "required": [r for r in schema.get("required", ()) if r not in names]}
