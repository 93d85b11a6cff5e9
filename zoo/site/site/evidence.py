"""What was measured: the Evidence section of a paper's page, and the rows of the claims board."""

from __future__ import annotations

from typing import Any

from zoo.registry.schema import Claim, ClaimRecord, Evidence, Method, Paper, ParityRecord
from zoo.site.context import Site
from zoo.site.text import attr, brief, code, inline, path, plain, spread, table

STATUSES = ("reproduced", "partly", "refuted", "not run")


def status_chip(status: str) -> str:
    """The word, with a colour beside it."""
    return f'<span class="zoo-chip {attr(status.replace(" ", "-"))}">{attr(status)}</span>'


def reported(claim: Claim | ClaimRecord) -> str:
    """What the paper says, as one cell."""
    found = claim.reported
    if found is None:
        return ""
    value = "" if found.value is None else f"**{plain(found.value)}{' ' + plain(found.unit) if found.unit else ''}**: "
    return f"{value}{inline(found.setting, cell=True)} ({inline(found.source, cell=True)})"


def _figure(value: Any) -> str:
    if isinstance(value, dict) and {"mean", "std"} <= set(value):
        return spread(value["mean"], value["std"])
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_figure(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_figure(v) for v in value)
    if isinstance(value, float):
        return brief(value)
    return str(value)


def measured(record: ClaimRecord) -> str:
    """The figures of a claim, as one cell."""
    return "<br>".join(f"{plain(name.replace('_', ' '))}: {plain(_figure(v))}" for name, v in record.measured.items())


def parity_of(found: Evidence, method: str) -> list[ParityRecord]:
    """Recorded errors of one method, against each of its oracles, largest share of the tolerance first."""
    records = [r for r in found.parity.values() if r.method == method]
    return sorted(records, key=lambda r: -r.error / (r.tolerance or 1))


def evidence_section(site: Site, paper: Paper, methods: list[Method], here: str) -> str:
    """Parity of each method and every claim, run or not."""
    found, link = site.evidence(paper.id), site.linker(here)
    rows = []
    for method in methods:
        records = parity_of(found, method.id)
        for record in records:
            rows.append([
                code(method.id), f"{inline(record.oracle, cell=True)}<br>{path(record.test)}", code(f"{record.error:.2g}"),
                code(f"{record.tolerance:.2g}"), str(record.date),
            ])  # fmt: skip
        if not records and method.parity is not None:
            rows.append([
                code(method.id), f"{inline(method.parity.oracle, cell=True)}<br>{path(method.parity.test)}",
                "held by the test, not recorded", code(f"{method.parity.tolerance:.2g}"), "–",
            ])  # fmt: skip
        elif not records:
            rows.append([code(method.id), "none", "not run", "–", "–"])
    out = "### Parity {data-search-exclude}\n\nThe implementation against an oracle that shares no code with it.\n\n"
    out += table(["Method", "Oracle and test", "Largest error", "Tolerance", "Date"], rows)
    out += "\n### Claims {data-search-exclude}\n\n"
    if not paper.claims:
        return out + "No claim of this paper is written down yet.\n"
    return out + "\n".join(_claim(site, paper, claim, link) for claim in paper.claims)


def _claim(site: Site, paper: Paper, claim: Claim, link: Any) -> str:
    record = site.evidence(paper.id).claims.get(claim.id)
    status = record.status if record else "not run"
    lines = [
        f"#### {plain(claim.id.replace('_', ' '))} {{#claim-{claim.id} data-search-exclude}}\n",
        f"{status_chip(status)} {inline(claim.statement, link)}\n",
    ]
    facts: list[tuple[str, str]] = []
    if text := reported(claim):
        facts.append(("Reported", text))
    if record is not None:
        facts += [
            ("Measured", measured(record)),
            ("Setting", inline(record.setting, link, cell=True)),
            ("Criterion", inline(record.tolerance, link, cell=True)),
            ("Seeds", plain(", ".join(map(str, record.seeds)))),
            ("When", f"{record.date}, {record.duration_s:.0f} s"),
            ("Where", plain(_environment(record))),
        ]
    elif claim.check:
        facts.append(("Measured", f"not run yet; {code(f'zoo reproduce {paper.id}')} runs {code(claim.check)}"))
    else:
        facts.append(("Measured", "no check is written for it"))
    lines.append(table(["Fact", "Value"], [[f"**{name}**", text] for name, text in facts]))
    return "\n".join(lines)


def _environment(record: ClaimRecord) -> str:
    e = record.environment
    return (
        f"torch {e.torch}, timm {e.timm}, Python {e.python}, {e.platform}, {e.device}, {e.threads} threads, zoo {e.zoo}"
    )


def claim_rows(site: Site) -> list[tuple[str, Claim, ClaimRecord | None]]:
    """Every claim of every paper, with its record where it was run."""
    return [(p, c, site.evidence(p).claims.get(c.id)) for p in site.papers for c in site.paper(p).claims]


def counts(site: Site) -> dict[str, int]:
    """Number of claims by status."""
    found = dict.fromkeys(STATUSES, 0)
    for _, _, record in claim_rows(site):
        found[record.status if record else "not run"] += 1
    return found
