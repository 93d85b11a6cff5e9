"""Everything as data beside the pages: it outlives the host and feeds other programs."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from zoo.registry.cite import bibtex
from zoo.site.context import TITLES, Site
from zoo.site.text import code, front, table


def _records(site: Site) -> dict[str, Any]:
    return {
        "papers": {
            p: {
                **site.reg.raw.papers[p],
                "page": site.path_of(p).removesuffix(".md") + "/",
                "methods": site.reg.methods_of.get(p, []),
                "models": site.reg.models_of.get(p, []),
                "status": site.status(p),
                "evidence": site.evidence(p).model_dump(mode="json", exclude_none=True),
            }
            for p in site.papers
        },
        "methods": dict(sorted(site.reg.raw.methods.items())),
        "models": dict(sorted(site.reg.raw.models.items())),
        "lock": site.reg.lock,
    }


def _csv(site: Site) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["id", "title", "authors", "venue", "year", "arxiv", "doi", "category", "kinds", "methods", "weights", "claims"]
    )
    for p in site.papers:
        r = site.paper(p)
        row = [
            p, r.title, "; ".join(r.authors), r.venue, r.year, r.arxiv or "", r.doi or "", r.category, " ".join(site.kinds(p)),
            " ".join(site.reg.methods_of.get(p, ())), "yes" if site.pretrained(p) else "no", site.status(p),
        ]  # fmt: skip
        writer.writerow([_cell(v) for v in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Spreadsheets run cells that begin so; a quote in front keeps them text."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def _llms(site: Site) -> str:
    lines = [
        "# zoo",
        "",
        "> Every paper in the catalog can be read, run, checked and loaded by one name. Python package `zoo` (distribution `paperzoo`).",
        "",
        'Create a method or model: `zoo.create(name, ...)`. Put methods into a backbone: `zoo.create("resnet50", norm="group_norm")`.',
        "Data: data/registry.json, data/papers.bib, data/arxiv.json, data/papers.csv.",
    ]
    for category in site.categories:
        lines += ["", f"## {TITLES[category]}", ""]
        for p in site.in_category(category):
            page = site.path_of(p).removesuffix(".md") + "/"
            title = site.paper(p).title.replace("[", "(").replace("]", ")")
            lines.append(f"- [{title}]({page}): {' '.join(site.paper(p).summary.split())}")
    return "\n".join(lines) + "\n"


_line = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def dumps(site: Site) -> dict[str, str]:
    """Path -> text of the data files; all of them deterministic."""
    from zoo.registry.schema import Evidence, Method, Model
    from zoo.registry.schema import Paper as PaperSchema

    arxiv = {
        r["arxiv"]: site.path_of(p).removesuffix(".md") + "/" for p, r in site.reg.raw.papers.items() if r.get("arxiv")
    }
    schemas = {m.__name__.lower(): m.model_json_schema() for m in (PaperSchema, Method, Model, Evidence)}

    def pretty(value: dict[str, Any]) -> str:
        """One record a line: files that differ little give small differences."""
        parts = []
        for name, records in sorted(value.items()):
            if isinstance(records, dict):
                lines = (f" {json.dumps(k)}: {_line(v)}" for k, v in sorted(records.items()))
                parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
            else:
                parts.append(f"{json.dumps(name)}: {_line(records)}")
        return "{\n" + ",\n".join(parts) + "\n}\n"

    return {
        "data/registry.json": pretty(_records(site)),
        "data/schema.json": pretty({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": schemas}),
        "data/arxiv.json": pretty(arxiv),
        "data/papers.bib": "\n".join(bibtex(site.reg.raw.papers[p]) for p in site.papers),
        "data/papers.csv": _csv(site),
        "llms.txt": _llms(site),
    }


def data_page(site: Site) -> str:
    """What the data files hold."""
    rows = [
        ["[registry.json](registry.json)", "papers, methods, models, lock and evidence, as one document"],
        ["[schema.json](schema.json)", "JSON Schema of those records"],
        ["[papers.csv](papers.csv)", "one row a paper"],
        ["[papers.bib](papers.bib)", "BibTeX of every paper"],
        ["[arxiv.json](arxiv.json)", "arXiv id to page"],
        ["[llms.txt](../llms.txt)", "the catalog as plain text for language models"],
    ]
    return (
        front(title="Data")
        + "# Data\n\nWritten at every build from the same records as the pages; a copy of this folder is a copy of the catalog.\n\n"
        + table(["File", "Holds"], rows)
        + f"\nFrom Python: {code('zoo.info(name)')}; from a shell: {code('zoo show NAME --json')}. The data are licensed as the project, Apache-2.0; "
        "titles and citations belong to their papers.\n"
    )
