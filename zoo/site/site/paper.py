"""The page of one paper: use it, method, curve, when, pitfalls, evidence, numbers, checkpoints, API, citation, relations."""

from __future__ import annotations

from typing import Any

from zoo.registry.cite import bibtex
from zoo.registry.schema import Method, Paper
from zoo.site import snippets
from zoo.site.checkpoints import method_weights
from zoo.site.context import RELATION_WORDS, TITLES, Site, to
from zoo.site.evidence import evidence_section
from zoo.site.figures import figures
from zoo.site.studies import OF_PAPER
from zoo.site.text import code, front, indent, inline, notes, plain, sections, table

#: Sections that a search for words should not land in: figures of measurements, names of other papers.
_UNSEARCHED = ("Evidence", "Measured over all tasks", "Numbers from the paper", "Checkpoints", "Cite", "Related")
_STANDARD = ("Method", "When to use it", "Where re-implementations go wrong")


def paper_page(site: Site, identity: str) -> str:
    """Markdown of one paper's page."""
    paper, here = site.paper(identity), site.path_of(identity)
    methods, link = site.methods_of(identity), site.linker(here)
    opening, parts = sections(site.notes(identity))
    out = [
        front(
            title=paper.title,
            description=paper.summary,
            search={"boost": 4},
        ),
        f"# {plain(paper.title)} {code(paper.id)}\n",
        _byline(paper),
        _chips(site, paper),
        f"**{inline(paper.summary, link)}**\n",
        notes(opening, link) if opening else "",
    ]

    def section(title: str, text: str) -> None:
        if text.strip():
            unsearched = " {data-search-exclude}" if title in _UNSEARCHED else ""
            out.append(f"## {title}{unsearched}\n\n{text.strip()}\n")

    section("Use it", "\n".join(_use(site, m, len(methods) > 1, here) for m in methods))
    section(
        "Method", "\n\n".join(filter(None, [notes(parts.get("Method", ""), link), _defaults(site, paper, methods)]))
    )
    section("Figures", figures(site, identity))
    section("When to use it", notes(parts.get("When to use it", ""), link))
    if wrong := parts.get("Where re-implementations go wrong", "").strip():
        section("Where re-implementations go wrong", '!!! warning "Check these first"\n\n' + indent(notes(wrong, link)))
    for name, body in parts.items():
        if name not in _STANDARD:
            section(plain(name), notes(body, link))
    section("Evidence", evidence_section(site, paper, methods, here))
    section("Measured over all tasks", OF_PAPER.get(identity, lambda _: "")(site))
    section("Numbers from the paper", _numbers(paper, link))
    section("Checkpoints", method_weights(site, identity, here))
    section("API", _api(site, methods))
    section("Cite", _cite(paper, here))
    section("Related", _related(site, identity, here))
    out.append(
        f"Sources of this page: {code(f'catalog/{paper.category}/{identity}.md')}, the entries of {code('registry.yaml')} "
        f"named above, and what was measured, {code(f'catalog/{paper.category}/{identity}.evidence.json')}. "
        f"Something wrong? [Change them]({to(here, 'guide/add-a-paper.md')}); this page follows.\n{{: .zoo-foot }}\n"
    )
    return "\n".join(part for part in out if part)


def _byline(paper: Paper) -> str:
    authors = ", ".join(plain(a) for a in paper.authors)
    return f"{authors} · {plain(paper.venue)} {paper.year}\n{{: .zoo-byline }}\n"


def _chips(site: Site, paper: Paper) -> str:
    chips = []
    if paper.arxiv:
        chips.append(f"[arXiv {plain(paper.arxiv)}](https://arxiv.org/abs/{paper.arxiv})")
    if paper.doi:
        chips.append(f"[DOI {plain(paper.doi)}](https://doi.org/{_url(paper.doi)})")
    if paper.url:
        chips.append(f"[Paper]({_url(paper.url)})")
    for repo in paper.code:
        shown = f"{plain(repo.repo)} ({plain(repo.licence if repo.licence != 'none' else 'no licence stated')})"
        address = repo.repo if "://" in repo.repo else f"https://github.com/{repo.repo}"
        who = "Authors' code" if repo.by == "authors" else "Third-party code"
        known = address.startswith("http") and " " not in address
        chips.append(f"{who}: [{shown}]({_url(address)})" if known else f"{who}: {shown}")
    status = site.status(paper.id)
    chips.append(f"Claims: {status}")
    here = site.path_of(paper.id)
    chips += [f"[{plain(t)}]({to(here, 'tags.md')}#{t.replace(' ', '-')})" for t in tags_of(site, paper.id)]
    return '<div class="zoo-chips" markdown>\n\n' + "\n".join(f"- {c}" for c in chips) + "\n\n</div>\n"


def tags_of(site: Site, paper: str) -> list[str]:
    """Words to browse by. They are links and not the theme's tags, which would outweigh titles in the search."""
    return list(dict.fromkeys([*site.kinds(paper), *(t.replace("_", " ") for t in site.paper(paper).tags)]))


def _url(address: str) -> str:
    """A link target that cannot end the Markdown link around it."""
    return address.replace("(", "%28").replace(")", "%29").replace(" ", "%20").replace("<", "%3C").replace(">", "%3E")


def _fence(text: str) -> str:
    return f"```python\n{text}\n```"


def _use(site: Site, method: Method, several: bool, here: str) -> str:
    """Four ways in, as tabs."""
    tabs = [("Library", _fence(snippets.library(site, method)))]
    if text := snippets.backbone(site, method):
        tabs.append(("In a backbone", _fence(text)))
    tabs.append(("Plain import", _fence(snippets.import_(site, method))))
    presets = snippets.as_in_paper(site, method)
    if presets:
        shown = "\n\n".join(f"{inline(source)}:\n\n{_fence(text)}" for source, text in presets)
        tabs.append(("As in the paper", shown))
    kind = f"{method.kind}, from {code(method.target.split(':')[0])}"
    summary = f" {inline(method.summary, site.linker(here))}" if method.summary else ""
    facts = [f"{code(method.id)} ({kind}).{summary}"]
    if method.aliases:
        facts.append("Other names: " + ", ".join(code(a) for a in method.aliases) + ".")
    if method.needs:
        facts.append("Needs: " + ", ".join(code(n) for n in method.needs) + ".")
    head = f"### {plain(method.id)}\n\n" if several else ""
    body = "\n".join(f'=== "{name}"\n\n{indent(text)}\n' for name, text in tabs)
    return f"{head}{' '.join(facts)}\n\n{body}"


def _defaults(site: Site, paper: Paper, methods: list[Method]) -> str:
    rows = []
    for row in paper.defaults:
        ours = [v for m in methods if (v := ours_of(site, m, row.name)) is not None]
        rows.append([
            code(row.name), *(inline(_scalar(v), cell=True) for v in (row.paper, row.code)),
            ", ".join(code(v) for v in dict.fromkeys(ours)) or "not a parameter", inline(row.source or "", cell=True),
        ])  # fmt: skip
    if not rows:
        return ""
    return "### Defaults\n\n" + table(["Parameter", "Paper", "Official code", "zoo", "Source"], rows)


def ours_of(site: Site, method: Method, name: str) -> str | None:
    """What zoo uses for a parameter: the registry's default, else that of the implementation."""
    if name in method.defaults:
        return str(method.defaults[name])
    parameters = site.parameters(method.target) or {}
    value = parameters.get(name)
    return None if value in (None, "required") else value


def _scalar(value: Any) -> str:
    return "" if value is None else str(value)


def _numbers(paper: Paper, link: Any) -> str:
    rows = [
        [inline(n.metric, cell=True), plain(f"{n.value} {n.unit}".strip()), inline(n.dataset, cell=True),
         inline(n.setting, link, cell=True), inline(n.source, cell=True)]
        for n in paper.numbers
    ]  # fmt: skip
    if not rows:
        return ""
    return "As the paper reports them; not measured here.\n\n" + table(
        ["Metric", "Value", "Data set", "Setting", "Where it stands"], rows
    )


def _api(site: Site, methods: list[Method]) -> str:
    out, seen = [], set()
    for method in methods:
        for target in (method.target, *method.variants.values()):
            if target in seen:
                continue
            seen.add(target)
            if target.startswith("zoo."):
                out.append(f"::: {target.replace(':', '.')}\n")
            else:
                out.append(_foreign(site, method, target))
    return "\n".join(out)


def _foreign(site: Site, method: Method, target: str) -> str:
    """A class of torch, timm or torchvision: its parameters; its documentation is that library's."""
    known = site.signatures.get(target)
    head = f"### {code(target.replace(':', '.'))}\n\n"
    if not known:
        return head + f"From {plain(method.backing)}; see its documentation.\n"
    rows = [
        [code(name), code(method.defaults[name]) if name in method.defaults else code(default)]
        for name, default in known["parameters"].items()
    ]
    return (
        head
        + f"From {plain(known['library'])} {plain(known['version'])}.\n\n"
        + table(["Parameter", "Default in zoo"], rows)
    )


def _cite(paper: Paper, here: str) -> str:
    entry = bibtex(paper.model_dump(mode="json")).replace("```", "'''")
    return (
        f"```bibtex\n{entry.strip()}\n```\n\n"
        f"All entries: [papers.bib]({to(here, 'data/papers.bib')}). "
        f"From Python: {code(f'zoo.cite({paper.id!r})')}."
    )


def _related(site: Site, identity: str, here: str) -> str:
    rows = []
    for edge in site.edges:
        if identity in (edge.source, edge.target):
            other = edge.target if edge.source == identity else edge.source
            word = RELATION_WORDS[edge.relation][edge.source != identity]
            rows.append([word, f"[{plain(other)}]({to(here, site.path_of(other))})", inline(edge.reason, cell=True)])
    models = [f"[{code(m)}]({to(here, f'models/{m}.md')})" for m in site.reg.models_of.get(identity, ())]
    category = site.paper(identity).category
    near = [p for p in site.in_category(category) if p != identity]
    out = table(["Relation", "Paper", "How"], rows)
    if models:
        out += "\nModels: " + ", ".join(models) + ".\n"
    if near:
        links = ", ".join(f"[{plain(p)}]({to(here, site.path_of(p))})" for p in near)
        out += f"\nAlso in [{TITLES[category]}]({to(here, f'{category}/index.md')}): {links}.\n"
    return out
