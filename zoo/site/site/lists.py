"""Pages that lead to others: home, catalog, categories, models."""

from __future__ import annotations

from zoo.site.checkpoints import HEADERS, model_rows
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import counts, status_chip
from zoo.site.text import code, front, inline, number, plain, table


def _weights(site: Site, paper: str) -> str:
    return "yes" if site.pretrained(paper) else "no"


def home(site: Site) -> str:
    """What this is, how to start, what there is."""
    papers, found = site.papers, counts(site)
    verified = sum(1 for p in papers if site.evidence(p).parity)
    weights = sum(1 for p in papers if site.pretrained(p))
    run = sum(v for k, v in found.items() if k != "not run")
    cards = []
    for category in site.categories:
        names = site.in_category(category)
        shown = ", ".join(f"[{plain(p)}]({site.path_of(p)})" for p in names[:6]) + (", …" if len(names) > 6 else "")
        cards.append(f"-   **[{TITLES[category]}]({category}/index.md)** ({len(names)})\n\n    {shown}\n")
    rest = ", ".join(f"{n} {status}" for status, n in found.items() if n)
    return f"""{front(title="zoo: papers that run", hide=["navigation", "toc"])}# Papers that run

Every paper in the catalog can be **read, run, checked and loaded** by one name.
{{: .zoo-lead }}

```sh
pip install -e .
zoo demo
```

```python
import zoo

norm = zoo.create("group_norm", 64)                        # a layer of a paper
model = zoo.create("resnet18", norm="group_norm", num_classes=10)  # in any timm backbone
digits = zoo.create("gn_resnet8_digits", pretrained=True)  # with weights, checked before they are read
print(zoo.cite("group_norm"))                              # and whom to thank
```

<div class="zoo-counts" markdown>

- **{len(papers)}** [papers](catalog.md)
- **{len(site.reg.raw.methods)}** methods
- **{verified}** with parity recorded
- **{run}** [claims measured](claims.md)
- **{weights}** with known weights

</div>

## Find a method

Press ++slash++ and type, or go through the [catalog](catalog.md) with its filters.

<div class="zoo-cards" markdown>

{chr(10).join(cards)}
</div>

## What stands behind an entry

- **Read**: the page says what the paper does in equations, with its defaults beside those of the official code and of zoo,
  and where re-implementations go wrong.
- **Run**: code blocks on the pages are executed by the tests.
- **Checked**: the implementation against an oracle that shares no code with it;
  the paper's claims on real data, whatever comes out. Now: {rest or "no claims yet"}.
- **Loaded**: weights with licence; pinned by commit and SHA-256, or marked *unpinned*.

Everything here as data, for programs and for the day this site is gone: [data](data/index.md).
""".replace("Press ++slash++ and type", "Press <kbd>/</kbd> and type")


def catalog(site: Site) -> str:
    """The whole catalog as one table; a script adds filters, search and sorting."""
    rows = []
    for p in site.papers:
        record = site.paper(p)
        rows.append([
            f"[{plain(record.title)}]({site.path_of(p)}) {code(p)}", TITLES[record.category], ", ".join(site.kinds(p)),
            plain(record.venue), str(record.year), _weights(site, p), plain(site.licence(p)), status_chip(site.status(p)),
        ])  # fmt: skip
    headers = ["Paper", "Category", "Kind", "Venue", "Year", "Weights", "Licence", "Claims"]
    return (
        front(title="Catalog", search={"exclude": True}, hide=["navigation", "toc"])
        + "# Catalog\n\nLicence is that of the known weights. Claims is the worst status among those that were run.\n\n"
        + grid(headers, rows, facets=["Category", "Kind", "Weights", "Licence", "Claims", "Year"], noun="papers")
        + "\nAs data: [registry.json](data/registry.json), [CSV](data/papers.csv), [BibTeX](data/papers.bib).\n"
    )


def grid(headers: list[str], rows: list[list[str]], *, facets: list[str], noun: str) -> str:
    """A table that a script makes filterable and sortable, with its state in the address; complete without it."""
    if not rows:
        return "Nothing here yet.\n"
    return f'<div class="zoo-grid" data-facets="{",".join(facets)}" data-noun="{noun}" markdown="block">\n\n{table(headers, rows)}\n</div>\n'


def models_page(site: Site) -> str:
    """All models, a row a set of weights, with what is known about each, and what is not."""
    here = "models/index.md"
    rows = []
    for name in site.models:
        resolved = site.reg.lock["models"].get(name, {})
        papers = ", ".join(f"[{plain(p)}]({to(here, site.path_of(p))})" for p in site.reg.papers_of_model[name])
        unknown = [number(resolved.get(f)) for f in ("params", "macs")]
        found = model_rows(site, name) or [["none", "–", "–", *unknown, "–", "–", "none", "no weights"]]
        for row in found:
            values = dict(zip(HEADERS, row, strict=True))
            rows.append([
                f"[{code(name)}]({name}.md)", papers, *(values[c] for c in ("Params", "MACs", "Top-1", "Data", "Licence", "Weights")),
                _pin_word(values["Bytes"]),
            ])  # fmt: skip
    head = ["Model", "Papers", "Params", "MACs", "Top-1", "Data", "Licence", "Hub", "Bytes"]
    return (
        front(title="Models", search={"boost": 0.3}, hide=["navigation", "toc"])
        + "# Models\n\nA model is a backbone with the methods of some papers in it; a row is one set of its weights. Params and MACs come "
        "from the lock file, top-1 is ImageNet-1k in percent at the input size behind it, data are those that the weights' own name states. "
        "What was not resolved says *unknown*; weights whose bytes are not fixed by commit and SHA-256 say *unpinned*.\n\n"
        + grid(head, rows, facets=["Model", "Licence", "Bytes"], noun="weights")
        + "\nAny timm architecture takes methods too: [swap a norm](../guide/swap-a-norm.md).\n"
    )


def _pin_word(state: str) -> str:
    return (
        state.partition(":")[0]
        if state.startswith("pinned")
        else ("commit only" if state.startswith("commit") else state)
    )


def model_page(site: Site, name: str) -> str:
    """Architecture, papers, input, checkpoints, results of one model."""
    here, model = f"models/{name}.md", site.reg.model(name)
    resolved = site.reg.lock["models"].get(name, {})
    link = site.linker(here)
    facts = [
        ["Backbone", code(model.backbone)],
        ["Methods in it", ", ".join(f"{swap}: {code(spec)}" for swap, spec in model.swaps.items()) or "none"],
        [
            "Papers",
            ", ".join(
                f"[{plain(site.paper(p).title)}]({to(here, site.path_of(p))})" for p in site.reg.papers_of_model[name]
            ),
        ],
        ["Parameters", number(resolved.get("params"))],
        ["MACs", number(resolved.get("macs"))],
        ["Activations", number(resolved.get("activations"))],
        ["Input", " × ".join(map(str, resolved["input"])) if resolved.get("input") else "unknown"],
        ["Recipe", code(model.recipe) if model.recipe else "none"],
    ]
    out = [front(title=name), f"# {plain(name)}\n", inline(model.summary or "", link) + "\n"]
    pretrained = ", pretrained=True" if model_rows(site, name) else ""
    out.append(f'```python\nimport zoo\n\nmodel = zoo.create("{name}"{pretrained})\n```\n')
    out.append(table(["Fact", "Value"], facts))
    out.append("## Checkpoints\n\n" + (table(HEADERS, model_rows(site, name)) or "No weights are known.\n"))
    for checkpoint in (*model.checkpoints.hub, *model.checkpoints.bundled):
        pre = checkpoint.input
        lines = [["Trained on", inline(checkpoint.trained_on, cell=True)], ["Licence", plain(checkpoint.licence)]]
        if pre:
            text = f"mean {list(pre.mean)}, std {list(pre.std)}, {pre.interpolation}, crop {pre.crop_pct}"
            lines.append(["Preprocessing", plain(text)])
        if checkpoint.recipe:
            lines.append(["Made by", code(checkpoint.recipe)])
        for m in checkpoint.metrics:
            text = f"{m.value:g} {m.unit}, {m.dataset}; {m.protocol}; from {m.source}"
            lines.append([plain(m.name), inline(text, cell=True)])
        out.append(f"### {code(checkpoint.tag)}\n\n" + table(["Fact", "Value"], lines))
    return "\n".join(out)
