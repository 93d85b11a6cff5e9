"""Evidence over the whole catalog: claims, swap matrix, capabilities, benchmarks."""

from __future__ import annotations

import json
from typing import Any

from zoo.site import svg
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import claim_rows, counts, measured, reported, status_chip
from zoo.site.lists import grid
from zoo.site.text import attr, code, front, inline, path, plain, table


def claims(site: Site) -> str:
    """Every claim: what the paper reports, what was measured, and the verdict."""
    here, rows = "claims.md", []
    for paper, claim, record in claim_rows(site):
        link = site.linker(here)
        rows.append([
            f"[{plain(paper)}]({site.path_of(paper)}#claim-{claim.id})", inline(claim.statement, link, cell=True),
            status_chip(record.status if record else "not run"), measured(record) if record else "", reported(claim),
            TITLES[site.paper(paper).category], str(record.date) if record else "",
        ])  # fmt: skip
    found = counts(site)
    chart = svg.bars([(k, float(v)) for k, v in found.items()], title="Claims by status")
    head = ["Paper", "Claim", "Status", "Measured", "Reported", "Category", "Date"]
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
    """Which method lands in which of timm's model families; reasons are numbered and stand below."""
    columns, rows = _rows_of(site.swap_matrix)
    reasons: dict[str, int] = {}
    counted: dict[str, dict[str, int]] = {c: {} for c in columns}

    def cell(column: str, value: Any) -> str:
        if not isinstance(value, dict):
            return path(value) if isinstance(value, str) else _cell(value)
        word = str(value.get("status") or value.get("result") or value.get("state") or "")
        counted[column][word] = counted[column].get(word, 0) + 1
        chip = f'<span class="zoo-chip {attr(word)}">{attr(word)}</span>'
        if reason := str(value.get("reason") or value.get("why") or ""):
            n = reasons.setdefault(_first(reason), len(reasons) + 1)
            return f"{chip} [({n})](#reasons)"
        return chip

    body = [[code(name), *(cell(c, row.get(c)) for c in columns)] for name, row in sorted(rows.items())]
    sums = [
        [code(c), *(str(counted[c].get(word, 0)) for word in ("complete", "partial", "refused"))]
        for c in columns
        if counted[c]
    ]
    told = "".join(f"{n}. {plain(reason)}\n" for reason, n in reasons.items())
    return (
        front(title="Swap matrix", search={"exclude": True}, hide=["navigation", "toc"])
        + "# Swap matrix\n\nOne small model of each of timm's families, with its layers exchanged by `zoo.swap`, run forward and backward. "
        "A test holds this table. *complete*: every layer of the kind was exchanged; *partial*: some were kept, with the reason; *refused*: "
        "an error that says why, and no model.\n\n"
        + _facts(site.swap_matrix) + table(["Method", "Complete", "Partial", "Refused"], sums) + "\n"
        + grid(["Family", *map(_column, columns)], body, facets=[], noun="families")
        + f"\n## Reasons\n\n{told}"
    )  # fmt: skip


def _first(reason: str) -> str:
    """The reason without the sizes of one model: what the families have in common."""
    return reason if len(reason) <= 160 else reason[:157].rsplit(" ", 1)[0] + " …"


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
    for file in sorted((site.bench / "results").glob("*.json")):
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            site.problems.append(f"{file.name}: not JSON ({error})")
            continue
        found[file.stem] = data if isinstance(data, dict) else {"rows": data}
    return found


#: Headings of the results files that ship; others are shown under their own name.
_HEADINGS = {
    "hub": "Loading weights", "methods": "Optimizers and pooling", "normalization": "Normalization layers", "spine": "Registry and factory",
    "training": "Training", "site": "This site",
}  # fmt: skip


def benchmarks(site: Site) -> str:
    """Committed figures with their environment; ratios first, since they travel between machines."""
    found = results(site)
    all_rows = [r for data in found.values() for r in _measurements(data)]
    aimed = [r for r in all_rows if r.get("target") is not None]
    met = sum(bool(r.get("met")) for r in aimed)
    out = [
        front(title="Benchmarks", hide=["toc"]),
        f"# Benchmarks\n\n**{met} of {len(aimed)} targets met.** A ratio is ours by the reference's, so below 1 is faster or smaller. Both sides "
        "were measured in turn in one run, and the figures are medians. Targets were set beforehand; what misses one stays in the "
        "list. `zoo bench NAME --write` measures again.\n",
    ]
    for name, data in found.items():
        rows = _measurements(data)
        out.append(f"## {_HEADINGS.get(name, plain(name.replace('_', ' ')))}\n\n{_conditions(name, data)}")
        if not rows:
            continue
        head = ["What", "Ours", "Reference", "Ratio", "Target", "Verdict", "Runs", "Against"]
        out.append(grid(head, [_measurement(r) for r in rows], facets=["Verdict"], noun="measurements"))
        bars = [
            svg.Ratio(str(r.get("name")), float(r["ratio"]), _float(r.get("target")))
            for r in rows
            if _is_number(r.get("ratio"))
        ]
        if len(bars) > 1:
            title = f"{_HEADINGS.get(name, name)}: ours by the reference's; a tick marks the target"
            out.append(f"\n**{plain(title)}**\n\n{svg.ratios(bars, title=title)}\n")
    return "\n".join(out)


def _measurements(data: dict[str, Any]) -> list[dict[str, Any]]:
    rows = data.get("rows", data.get("results", []))
    return [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []


def _conditions(name: str, data: dict[str, Any]) -> str:
    """When and on what, as one line."""
    e = data.get("environment", {})
    where = [f"{k} {e[k]}" for k in ("python", "torch", "timm", "zoo", "mkdocs") if k in e]
    where += [str(e[k]) for k in ("platform", "device") if k in e] + [
        f"{e['threads']} thread(s)" for _ in range("threads" in e)
    ]
    return f"`zoo bench {name}`, {plain(data.get('date', 'no date'))}: {plain(', '.join(where))}.\n\n"


def _measurement(row: dict[str, Any]) -> list[str]:
    unit = str(row.get("unit", "ms"))
    verdict = {True: "met", False: "missed"}.get(row.get("met"), "no target")  # type: ignore[arg-type]
    chip = f'<span class="zoo-chip {verdict.replace(" ", "-")}">{verdict}</span>'
    target = "" if row.get("target") is None else f"≤ {_number(row['target'])}"
    return [
        f"**{plain(row.get('name', ''))}**<br>{plain(row.get('what', ''))}", _with_unit(row.get("ours"), unit),
        _with_unit(row.get("baseline"), unit), _number(row.get("ratio")), target, chip, _number(row.get("runs")), plain(row.get("reference", "")),
    ]  # fmt: skip


def _with_unit(value: Any, unit: str) -> str:
    return f"{_number(value)} {plain(unit)}" if _is_number(value) else ""


def _float(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if value is None:
        return ""
    if not _is_number(value):
        return plain(value)
    digits = 3 if abs(value) >= 0.1 else 2
    shown = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in shown else shown
