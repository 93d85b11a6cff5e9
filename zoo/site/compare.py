"""Compare pages: papers that the catalog relates by ``compared_with``, side by side."""

from __future__ import annotations

from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import status_chip
from zoo.site.figures import figure
from zoo.site.text import code, front, inline, notes, plain, sections, table

#: Comparisons that people look for, beside those that follow from the relations.
CHOSEN: tuple[tuple[str, ...], ...] = (
    ("group_norm", "batch_norm", "layer_norm"),
    ("lars", "lamb", "lans"),
    ("imae", "derivative_manipulation", "mae_loss"),
)


def groups(site: Site) -> list[tuple[str, ...]]:
    """Papers of each comparison: the chosen ones of which two or more are there, then each pair compared in the catalog."""
    found = [tuple(p for p in group if p in site.reg.raw.papers) for group in CHOSEN]
    found = [group for group in found if len(group) > 1]
    for edge in site.edges:
        pair = (edge.source, edge.target)
        covered = any(set(pair) <= set(group) for group in found)
        if edge.relation == "compared_with" and not covered:
            found.append(pair)
    return found


def compare_pages(site: Site) -> dict[str, str]:
    """A page a comparison, and their list; empty without comparisons."""
    found = groups(site)
    if not found:
        return {}
    out = {f"compare/{'-vs-'.join(group)}.md": _page(site, group) for group in found}
    lines = [
        f"- [{plain(' vs. '.join(group))}]({path.removeprefix('compare/')})"
        for group, path in zip(found, out, strict=True)
    ]
    out["compare/index.md"] = (
        front(title="Compare", search={"exclude": True})
        + "# Compare\n\nPapers that the catalog compares, side by side: equations, defaults, figures, evidence.\n\n"
        + '<div class="zoo-compare" data-source="../data/registry.json"></div>\n\n'
        + "\n".join(lines) + "\n"
    )  # fmt: skip
    return out


def _page(site: Site, group: tuple[str, ...]) -> str:
    here = f"compare/{'-vs-'.join(group)}.md"
    papers = [site.paper(p) for p in group]
    head = ["", *(f"[{plain(p.id)}]({to(here, site.path_of(p.id))})" for p in papers)]
    link = site.linker(here)

    def row(name: str, cells: list[str]) -> list[str]:
        return [f"**{name}**", *cells]

    rows = [
        row("Paper", [plain(p.title) for p in papers]),
        row("Year", [str(p.year) for p in papers]),
        row("Category", [TITLES[p.category] for p in papers]),
        row("What it does", [inline(p.summary, link, cell=True) for p in papers]),
        row("Kind", [", ".join(site.kinds(p.id)) for p in papers]),
        row("Weights", ["yes" if site.pretrained(p.id) else "no" for p in papers]),
        row("Claims", [status_chip(site.status(p.id)) for p in papers]),
    ]
    head[0] = "Fact"
    title = " vs. ".join(group)
    out = [front(title=title, search={"exclude": True}), f"# {plain(title)}\n", table(head, rows)]
    reasons = [e for e in site.edges if e.source in group and e.target in group]
    out += [f"- {code(e.source)} and {code(e.target)}: {inline(e.reason, link)}" for e in reasons]
    if names := list(dict.fromkeys(d.name for p in papers for d in p.defaults)):
        cells = [
            [
                code(n),
                *(
                    next((plain(d.paper) for d in p.defaults if d.name == n and d.paper is not None), "–")
                    for p in papers
                ),
            ]
            for n in names
        ]
        out.append("\n## Defaults of the papers\n\n" + table(["Parameter", *head[1:]], cells))
    drawn = []
    for p in papers:
        methods = site.reg.methods_of.get(p.id, [])
        data = next((d for m in methods[:1] for d in site.curves.get(m, {}).get("figures", ())), None)
        if data:
            drawn.append(f"<div><strong>{p.id}</strong>{figure(data)}</div>")
    if drawn:
        out.append('\n## Figures\n\n<div class="zoo-side">' + "".join(drawn) + "</div>\n")
    out.append("\n## Equations\n")
    for p in papers:
        _, parts = sections(site.notes(p.id))
        out.append(f"### {plain(p.id)}\n\n{notes(_flat(parts.get('Method', '')), link)}\n")
    return "\n".join(out)


def _flat(text: str) -> str:
    """Headings inside a section one level deeper, so that the page's outline stays a tree."""
    return "\n".join(("#" + line) if line.startswith("###") else line for line in text.split("\n"))
