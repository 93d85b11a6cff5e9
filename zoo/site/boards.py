"""Evidence over the whole catalog: claims, swap matrix, capabilities, benchmarks."""

from __future__ import annotations

import json
from typing import Any

from zoo.site import svg
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import claim_rows, counts, measured, reported, status_chip
from zoo.site.lists import grid
from zoo.site.text import code, front, inline, number, plain, table


def claims(site: Site) -> str:
    """Every claim: what the paper reports, what was measured, and the verdict."""
    here, rows = "claims.md", []
    for paper, claim, record in claim_rows(site):
        link = site.linker(here)
        rows.append([
            f"[{plain(paper)}]({site.path_of(paper)}#claims)", TITLES[site.paper(paper).category],
            inline(claim.statement, link, cell=True), reported(claim), measured(record) if record else "",
            status_chip(record.status if record else "not run"), str(record.date) if record else "",
        ])  # fmt: skip
    found = counts(site)
    chart = svg.bars([(k, float(v)) for k, v in found.items()], title="Claims by status")
    head = ["Paper", "Category", "Claim", "Reported", "Measured", "Status", "Date"]
    return (
        front(title="Claims", search={"exclude": True}, hide=["navigation", "toc"])
        + "# Claims\n\nStatements of the papers that can be measured on small real data, and what came out. A verdict follows from the figures by "
        "a criterion written beforehand; *refuted* and *partly* stay as they are. *not run* means that nobody has measured it here. "
        "How to run one yourself: [reproduce a claim](guide/reproduce-a-claim.md).\n\n"
        + chart + "\n\n"
        + grid(head, rows, facets=["Status", "Category"], noun="claims")
    )  # fmt: skip


def _cell(value: Any) -> str:
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if value is None:
        return ""
    if isinstance(value, dict):
        word = value.get("status") or value.get("result") or value.get("state")
        reason = value.get("reason") or value.get("why") or ""
        return (
            f"{plain(word)}{': ' + plain(reason) if reason else ''}"
            if word
            else plain(json.dumps(value, sort_keys=True))
        )
    return plain(value)


def _rows_of(data: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Columns and rows of a mapping row -> column -> value, whatever key it stands under."""
    for name in ("rows", "methods", "matrix", "families"):
        if isinstance(data.get(name), dict):
            data = data[name]
            break
    rows = {k: v for k, v in data.items() if isinstance(v, dict)}
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    return columns, rows


def swap_matrix(site: Site) -> str:
    """Which method lands in which of timm's model families."""
    columns, rows = _rows_of(site.swap_matrix)
    body = [[code(name), *(_cell(row.get(c)) for c in columns)] for name, row in sorted(rows.items())]
    return (
        front(title="Swap matrix", search={"exclude": True}, hide=["toc"])
        + "# Swap matrix\n\nOne small model of each of timm's families, with its layers exchanged by `zoo.swap`, run forward and backward. "
        "A test holds this table.\n\n"
        + _facts(site.swap_matrix)
        + grid(["Family", *map(_column, columns)], body, facets=[], noun="families")
    )


def capabilities(site: Site) -> str:
    """What each method can do, from the contract tests."""
    columns, rows = _rows_of(site.capabilities)
    here, body = "capabilities.md", []
    for name, row in sorted(rows.items()):
        page = site.page_of(name)
        shown = f"[{code(name)}]({to(here, page)})" if page else code(name)
        body.append([shown, *(_cell(row.get(c)) for c in columns)])
    return (
        front(title="Capabilities", search={"exclude": True}, hide=["toc"])
        + "# Capabilities\n\nFilled by the contract tests, which run over the whole registry. "
        "A dash stands where a check does not apply to the kind.\n\n"
        + _facts(site.capabilities)
        + _legend(site.capabilities)
        + grid(["Method", *map(_column, columns)], body, facets=[], noun="methods")
    )


def _legend(data: dict[str, Any]) -> str:
    """What each column means, where the file says so."""
    checks = data.get("checks")
    if not isinstance(checks, dict):
        return ""
    told = [(k, v) for k, v in checks.items() if isinstance(v, str) and v.replace(" ", "_") != k]
    return "".join(f"- **{_column(k)}**: {inline(v.replace('``', '`'))}\n" for k, v in told) + "\n" if told else ""


def _column(name: str) -> str:
    return plain(name.replace("_", " "))


def _facts(data: dict[str, Any]) -> str:
    """Scalars at the top of a data file: date, versions, environment."""
    flat = {k: v for k, v in data.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}
    environment = data.get("environment")
    if isinstance(environment, dict):
        flat |= {k: v for k, v in environment.items() if isinstance(v, str | int | float)}
    return (", ".join(f"{plain(k.replace('_', ' '))} {plain(v)}" for k, v in flat.items()) + ".\n\n") if flat else ""


# --------------------------------------------------------------------------- benchmarks


def results(site: Site) -> dict[str, dict[str, Any]]:
    """Committed benchmark results by name; a broken file is reported."""
    found = {}
    for path in sorted((site.bench / "results").glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            site.problems.append(f"{path.name}: not JSON ({error})")
            continue
        found[path.stem] = data if isinstance(data, dict) else {"rows": data}
    return found


def benchmarks(site: Site) -> str:
    """Committed figures with their environment; ratios first, since they travel between machines."""
    out = [
        front(title="Benchmarks"),
        "# Benchmarks\n\nPrograms stand in `benchmarks/`, results are committed beside them. Both sides of a ratio were measured "
        "interleaved in one run; the figures are medians.\n",
    ]
    for name, data in results(site).items():
        out.append(f"## {plain(name.replace('_', ' '))}\n\n{_facts(data)}")
        rows = data.get("results", data.get("rows", data.get("measurements")))
        if isinstance(rows, dict):
            rows = [{"name": k, **(v if isinstance(v, dict) else {"value": v})} for k, v in rows.items()]
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            continue
        columns = [c for c in dict.fromkeys(c for r in rows for c in r) if not isinstance(rows[0].get(c), dict | list)]
        out.append(table([_column(c) for c in columns], [[_number(r.get(c)) for c in columns] for r in rows]))
        ratios = [
            (str(r.get("name", r.get("what", i))), float(r["ratio"]))
            for i, r in enumerate(rows)
            if _is_number(r.get("ratio"))
        ]
        if len(ratios) > 1:
            out.append("\n" + svg.bars(ratios, title=f"{name}: ratios", unit=" ×") + "\n")
    return "\n".join(out)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return number(value) if isinstance(value, int) and abs(value) >= 10_000 else plain(value)
