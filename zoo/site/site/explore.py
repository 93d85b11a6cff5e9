"""Ways through the catalog that are not lists: the timeline and the graph of relations."""

from __future__ import annotations

import json

from zoo.site.context import RELATION_WORDS, TITLES, Site
from zoo.site.paper import tags_of
from zoo.site.text import attr, front, inline, plain


def timeline(site: Site) -> str:
    """Papers by year, newest first."""
    by_year: dict[int, list[str]] = {}
    for p in site.papers:
        by_year.setdefault(site.paper(p).year, []).append(p)
    top = max(map(len, by_year.values()), default=1)
    bars = "".join(_bar(year, len(by_year.get(year, [])), top, i) for i, year in enumerate(_years(by_year)))
    width = 30 * len(_years(by_year)) + 10
    out = [
        front(title="Timeline", search={"exclude": True}),
        f"# Timeline\n\n{len(site.papers)} papers from {min(by_year, default=0)} to {max(by_year, default=0)}.\n",
        f'<figure class="zoo-plot"><svg viewBox="0 0 {width} 120" role="img" aria-label="Papers a year"><title>Papers a year</title>'
        f"<desc>{attr(', '.join(f'{y}: {len(p)}' for y, p in sorted(by_year.items())))}</desc>{bars}</svg></figure>\n",
    ]
    for year in sorted(by_year, reverse=True):
        out.append(f"## {year}\n")
        out += [
            f"- [{plain(site.paper(p).title)}]({site.path_of(p)}), {plain(site.paper(p).venue)} "
            f"({TITLES[site.paper(p).category]}). {inline(site.paper(p).summary)}"
            for p in by_year[year]
        ]
        out.append("")
    return "\n".join(out)


def tags(site: Site) -> str:
    """Papers by kind and by the tags of their front matter."""
    found: dict[str, list[str]] = {}
    for p in site.papers:
        for tag in tags_of(site, p):
            found.setdefault(tag, []).append(p)
    out = [front(title="Tags", search={"exclude": True}), "# Tags\n"]
    for tag in sorted(found):
        links = ", ".join(f"[{plain(p)}]({site.path_of(p)})" for p in found[tag])
        out.append(f"## {plain(tag)} {{#{tag.replace(' ', '-')}}}\n\n{links}\n")
    return "\n".join(out)


def _years(by_year: dict[int, list[str]]) -> list[int]:
    """Every year from 2012 on, and earlier ones only where there is a paper."""
    if not by_year:
        return []
    return sorted({*by_year, *range(max(2012, min(by_year)), max(by_year) + 1)})


def _bar(year: int, count: int, top: int, index: int) -> str:
    height = 76 * count / top
    x = 8 + 30 * index
    label = f'<text x="{x + 11}" y="{92 - height:.0f}" text-anchor="middle">{count}</text>' if count else ""
    return (
        f'<rect class="f c0" x="{x}" y="{96 - height:.1f}" width="22" height="{height:.1f}"/>{label}'
        f'<text x="{x + 11}" y="112" text-anchor="middle">{year}</text>'
    )


def graph(site: Site) -> str:
    """Relations between papers: a picture to walk, and the same as a table."""
    names = sorted({n for e in site.edges for n in (e.source, e.target)}, key=site.papers.index)
    nodes = [
        {"id": p, "url": site.path_of(p).removesuffix(".md") + "/", "c": site.categories.index(site.paper(p).category)}
        for p in names
    ]
    edges = [
        {"s": e.source, "t": e.target, "r": RELATION_WORDS[e.relation][0].lower(), "why": e.reason} for e in site.edges
    ]
    data = (
        json.dumps({"nodes": nodes, "edges": edges}, ensure_ascii=True)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
    rows = [
        [f"[{plain(e.source)}]({site.path_of(e.source)})", RELATION_WORDS[e.relation][0].lower(),
         f"[{plain(e.target)}]({site.path_of(e.target)})", inline(e.reason, cell=True)]
        for e in site.edges
    ]  # fmt: skip
    from zoo.site.lists import grid

    return (
        front(title="Graph", search={"exclude": True}, hide=["toc"])
        + "# Graph of relations\n\nWhat is a special case of what, what generalises, what combines. Choose a paper to walk its neighbours; "
        "the table below holds all of it.\n\n"
        + f'<div class="zoo-graph" data-root="."><script type="application/json">{data}</script></div>\n\n'
        + (
            grid(["Paper", "Relation", "To", "How"], rows, facets=["Relation"], noun="relations")
            if rows
            else "No relations yet.\n"
        )
    )
