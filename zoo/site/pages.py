"""Every generated file of the site as ``path -> text``, and the navigation over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.site import boards, dumps, explore, lists
from zoo.site.category import category_page
from zoo.site.compare import compare_pages, groups, path_of
from zoo.site.context import TITLES, Site
from zoo.site.paper import paper_page

GUIDES = (
    ("Quick start", "quick-start"),
    ("Swap a norm", "swap-a-norm"),
    ("Train with noisy labels", "noisy-labels"),
    ("Reproduce a claim", "reproduce-a-claim"),
    ("KL divergence by running it", "kl-divergence"),
    ("Add a paper", "add-a-paper"),
    ("Publish weights", "publish"),
    ("Security", "security"),
    ("Offline", "offline"),
    ("Architecture", "architecture"),
    ("Dependencies", "dependencies"),
)


def _optional(site: Site) -> list[tuple[str, str, Callable[[Site], str]]]:
    """Pages that exist only when their data do."""
    pages: list[tuple[str, str, Callable[[Site], str]]] = [("Claims", "claims.md", boards.claims)]
    if site.swap_matrix:
        pages.append(("Swap matrix", "swap-matrix.md", boards.swap_matrix))
    if site.capabilities:
        pages.append(("Capabilities", "capabilities.md", boards.capabilities))
    if boards.results(site):
        pages.append(("Benchmarks", "benchmarks.md", boards.benchmarks))
    return pages


def pages(site: Site) -> dict[str, str]:
    """Markdown and data files, relative path -> text."""
    out = {
        "index.md": lists.home(site),
        "catalog.md": lists.catalog(site),
        "models/index.md": lists.models_page(site),
        "timeline.md": explore.timeline(site),
        "graph.md": explore.graph(site),
        "data/index.md": dumps.data_page(site),
        "tags.md": explore.tags(site),
    }
    out |= {path: make(site) for _, path, make in _optional(site)}
    out |= {f"{c}/index.md": category_page(site, c) for c in site.categories}
    out |= {site.path_of(p): paper_page(site, p) for p in site.papers}
    out |= {f"models/{m}.md": lists.model_page(site, m) for m in site.models}
    out |= compare_pages(site)
    out |= dumps.dumps(site)
    return out


def nav(site: Site, copied: set[str]) -> list[Any]:
    """Navigation for mkdocs.yml, over generated pages and those ``copied``. Titles of papers are their ids: short, and what one types."""
    catalog: list[Any] = ["catalog.md"]
    for category in site.categories:
        catalog.append(
            {TITLES[category]: [f"{category}/index.md", *({p: site.path_of(p)} for p in site.in_category(category))]}
        )
    compare = sorted(path_of(group) for group in groups(site))
    entries: list[Any] = [
        {"Home": "index.md"},
        {"Catalog": catalog},
        {"Models": ["models/index.md", *({m: f"models/{m}.md"} for m in site.models)]},
        {"Evidence": [{title: path} for title, path, _ in _optional(site)]},
        {"Explore": [{"Timeline": "timeline.md"}, {"Graph": "graph.md"}, {"Tags": "tags.md"}]},
        {"Guide": [{title: f"guide/{name}.md"} for title, name in GUIDES if f"guide/{name}.md" in copied]},
        {"Data": "data/index.md"},
    ]
    if compare:
        entries[4]["Explore"].insert(2, {"Compare": ["compare/index.md", *compare]})
    return entries
