"""Compare pages: papers that the catalog relates by ``compared_with``, side by side."""

from __future__ import annotations

from zoo.registry.schema import Paper
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import status_chip
from zoo.site.figures import figure
from zoo.site.studies import OF_COMPARISON
from zoo.site.text import code, equations, front, inline, plain, sections, table

#: Comparisons that people look for, beside those that follow from the relations.
CHOSEN: tuple[tuple[str, ...], ...] = (
    ("group_norm", "batch_norm", "layer_norm", "instance_norm"),
    ("lars", "lamb", "lans"),
    ("imae", "derivative_manipulation", "mae_loss"),
    ("autoencoder", "vae", "gan"),
    ("planar_flow", "radial_flow"),
    ("spatial_pyramid_pooling", "pyramid_pooling_module", "strip_pooling"),
    ("bilinear_pooling", "mpn_cov", "isqrt_cov"),
    ("co_teaching", "co_teaching_plus", "jocor"),
)
LARGEST = 4


def groups(site: Site) -> list[tuple[str, ...]]:
    """Papers of each comparison: the chosen ones of which two or more are there, then pairs compared in the catalog.

    A pair joins the comparison of its category that holds one of the two and has room, if both are compared with everyone
    or the group stays small; three side by side tell more than three pages of two.
    """
    found = [[p for p in group if p in site.reg.raw.papers] for group in CHOSEN]
    found = [group for group in found if len(group) > 1]
    grown: list[list[str]] = []
    category = {p: r["category"] for p, r in site.reg.raw.papers.items()}
    for edge in site.edges:
        pair = {edge.source, edge.target}
        if edge.relation != "compared_with" or any(pair <= set(group) for group in [*found, *grown]):
            continue
        room = next(
            (
                g
                for g in grown
                if pair & set(g) and len(g) < LARGEST and {category[p] for p in pair} == {category[p] for p in g}
            ),
            None,
        )
        if room is None:
            grown.append([edge.source, edge.target])
        else:
            room += [p for p in (edge.source, edge.target) if p not in room]
    return [tuple(group) for group in [*found, *grown]]


def path_of(group: tuple[str, ...]) -> str:
    """Where a comparison's page lies."""
    return f"compare/{'-vs-'.join(group)}.md"


def compare_pages(site: Site) -> dict[str, str]:
    """A page a comparison, and their list by category; empty without comparisons."""
    found = groups(site)
    if not found:
        return {}
    out = {path_of(group): _page(site, group) for group in found}
    shown: dict[str, list[str]] = {}
    for group, path in zip(found, out, strict=True):
        title = TITLES[site.reg.raw.papers[group[0]]["category"]]
        shown.setdefault(title, []).append(f"[{plain(' vs. '.join(group))}]({path.removeprefix('compare/')})")
    out["compare/index.md"] = (
        front(title="Compare", search={"exclude": True}, hide=["toc"])
        + "# Compare\n\nPapers that the catalog compares, side by side: facts, claims, defaults, figures, equations. Any two:\n\n"
        + '<div class="zoo-compare" data-source="../data/registry.json"></div>\n\n'
        + "".join(f"## {title}\n\n" + "".join(f"- {line}\n" for line in lines) + "\n" for title, lines in shown.items())
    )  # fmt: skip
    return out


def _page(site: Site, group: tuple[str, ...]) -> str:
    name = "-vs-".join(group)
    here = path_of(group)
    papers = [site.paper(p) for p in group]
    head = ["Fact", *(f"[{plain(p.id)}]({to(here, site.path_of(p.id))})" for p in papers)]
    link = site.linker(here)
    extra = site.data("compare").get(name, {})

    def row(name: str, cells: list[str]) -> list[str]:
        return [f"**{plain(name)}**", *cells]

    rows = [
        row("Paper", [f"{plain(p.title)}, {p.year}" for p in papers]),
        row("What it does", [inline(p.summary, link, cell=True) for p in papers]),
        *(
            row(fact, [inline(v.get(p.id, ""), cell=True) for p in papers])
            for fact, v in extra.get("facts", {}).items()
        ),
        *_norm_rows(site, group),
        row("Kind", [", ".join(site.kinds(p.id)) for p in papers]),
        row("Weights", ["yes" if site.pretrained(p.id) else "no" for p in papers]),
        row("Claims", [_claims(site, p.id, here) for p in papers]),
    ]
    title = " vs. ".join(group)
    out = [
        front(title=title, search={"exclude": True}, hide=["toc"]),
        f"# {plain(extra.get('title', title))}\n",
        inline(extra["intro"], link) + "\n" if extra else "",
        f'<div class="zoo-facts" markdown="block">\n\n{table(head, rows)}\n</div>\n',
    ]
    reasons = [e for e in site.edges if e.source in group and e.target in group]
    out += [f"- {code(e.source)} and {code(e.target)}: {inline(e.reason, link)}" for e in reasons]
    if study := OF_COMPARISON.get(name, lambda _: "")(site):
        out.append(f"\n## Measured on the same data\n\n{study}")
    if names := list(dict.fromkeys(d.name for p in papers for d in p.defaults if d.paper is not None)):
        out.append(
            "\n## Defaults of the papers\n\n" + table(["Parameter", *head[1:]], [_default(papers, n) for n in names])
        )
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
        there = f"[What the symbols mean]({to(here, site.path_of(p.id))}#method)."
        shown = "\n\n".join(equations(parts.get("Method", ""))) or "No display equation."
        out.append(f"### {plain(p.id)}\n\n{shown}\n\n{there}\n")
    return "\n".join(out)


def _default(papers: list[Paper], name: str) -> list[str]:
    values = [next((plain(d.paper) for d in p.defaults if d.name == name and d.paper is not None), "–") for p in papers]
    return [code(name), *values]


def _claims(site: Site, paper: str, here: str) -> str:
    """Every claim with its verdict."""
    shown = []
    for claim in site.paper(paper).claims:
        record = site.evidence(paper).claims.get(claim.id)
        words = plain(claim.id.replace("_", " "))
        shown.append(
            f"[{words}]({to(here, site.path_of(paper))}#claim-{claim.id}) {status_chip(record.status if record else 'not run')}"
        )
    return "<br>".join(shown)


def _norm_rows(site: Site, group: tuple[str, ...]) -> list[list[str]]:
    """Measured facts, where every paper of the group has a norm of its own name among them."""
    found = site.data("norm_table").get("norms", {})
    if not all(p in found for p in group):
        return []
    said = {
        "Statistics over": lambda f: ", ".join(f["reads"]) or "nothing of this batch",
        "In evaluation": lambda f: ", ".join(f["reads_eval"]) or "what was stored",
        "Training equals evaluation": lambda f: "yes" if f["train_equals_eval"] else "no",
        "Folds into a convolution": lambda f: "yes" if f["folds"] else "no",
    }
    return [[f"**{name}**", *(say(found[p]) for p in group)] for name, say in said.items()]
