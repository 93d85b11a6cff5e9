"""Pages that lead to others: home, catalog, categories, models."""

from __future__ import annotations

from zoo.registry.schema import Method
from zoo.site.checkpoints import HEADERS, model_rows, pin_state
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import counts, status_chip
from zoo.site.figures import overlays
from zoo.site.text import code, front, inline, number, plain, table

#: What one sentence says about choosing within a category; the comparison table holds the rest.
HINTS = {
    "normalization": "Small or varying batches: a norm without the batch axis (`group_norm`, `layer_norm`). Large fixed batches: `batch_norm`. "
    "Style and generation: `instance_norm`, `positional_norm`.",
    "noisy_labels": "Start with a robust loss (`gce`, `sce`, `derivative_manipulation`): no extra data, no extra network. "
    "Known noise rates: loss correction. A clean set: reweighting by meta-learning. Heavy noise and compute to spare: two networks.",
    "optimizers": "Layer-wise adaptive ones (`lars`, `lamb`, `lans`) are for very large batches; on small ones plain AdamW or SGD is hard to beat.",
    "activations": "Coordinates in, signals out: `siren`. Images: `frelu` looks at a neighbourhood and costs a depthwise convolution.",
    "pooling": "Fine-grained classes and little spatial structure left: covariance pooling. Inputs of many sizes: `spatial_pyramid_pooling`.",
    "losses": "Calibration first: `label_smoothing`. It is no cure for wrong labels.",
}  # fmt: skip


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


def category_page(site: Site, category: str) -> str:
    """Comparison table, figures and a hint on choosing."""
    here, names = f"{category}/index.md", site.in_category(category)
    link = site.linker(here)
    years = [site.reg.raw.papers[p]["year"] for p in names]
    span = str(min(years)) if min(years) == max(years) else f"{min(years)} to {max(years)}"
    rows = [
        [f"[{plain(site.paper(p).title)}]({to(here, site.path_of(p))}) {code(p)}", str(site.paper(p).year),
         inline(site.paper(p).summary, link, cell=True), _weights(site, p), status_chip(site.status(p))]
        for p in names
    ]  # fmt: skip
    out = [
        front(title=TITLES[category], search={"boost": 0.3}),
        f"# {TITLES[category]}\n\n{len(names)} paper{'s' if len(names) != 1 else ''}, {span}.\n",
        table(["Paper", "Year", "What it does", "Weights", "Claims"], rows),
    ]
    if hint := HINTS.get(category):
        out.append(f'!!! tip "Which one"\n\n    {inline(hint, link)}\n')
    if drawn := overlays(site, category):
        out.append(f"## Side by side\n\n{drawn}")
    out.append(f"## Methods\n\n{_comparison(site, category, here)}")
    return "\n".join(out)


def _comparison(site: Site, category: str, here: str) -> str:
    """Facts about each implementation, read off the registry and the sources."""
    by_kind: dict[str, list[Method]] = {}
    for p in site.in_category(category):
        for method in site.methods_of(p):
            by_kind.setdefault(method.kind, []).append(method)
    out = []
    for kind, methods in by_kind.items():
        rows = []
        for m in methods:
            parity = site.evidence(m.paper).parity.get(m.id)
            error = code(f"{parity.error:.1g}") if parity else ("by test" if m.parity else "not run")
            rows.append([
                f"[{code(m.id)}]({to(here, site.path_of(m.paper))})", m.backing,
                code(", ".join(_parameters(site, m)) or "none"), ", ".join(code(n) for n in m.needs) or "–",
                m.faithful_to.replace("_", " "), error,
            ])  # fmt: skip
        head = ["Method", "From", "Parameters", "Needs", "Follows", "Parity error"]
        out.append(f"### Kind {code(kind)}\n\n{table(head, rows)}")
    return "\n".join(out)


def _parameters(site: Site, method: Method) -> list[str]:
    parameters = site.parameters(method.target) or {}
    return [
        f"{k}={method.defaults.get(k, v)}"
        for k, v in parameters.items()
        if v != "required" and k not in ("device", "dtype")
    ]


def models_page(site: Site) -> str:
    """All models with what is known about each, and what is not."""
    here = "models/index.md"
    rows = []
    for name in site.models:
        resolved, model = site.reg.lock["models"].get(name, {}), site.reg.model(name)
        own = [*model.checkpoints.hub, *model.checkpoints.bundled]
        tags = [site.reg.lock["timm"].get(t, {}) for t in model.checkpoints.timm]
        top1 = [
            f"{m.value:g}{m.unit} ({plain(m.dataset)})" for c in own for m in c.metrics if m.name in ("top-1", "top1")
        ]
        data = [c.trained_on for c in own]
        licences = dict.fromkeys([c.licence for c in own] + [t.get("licence") or "unknown" for t in tags])
        hubs = dict.fromkeys([c.repo or "bundled" for c in own] + [t.get("hub_id") or "unknown" for t in tags])
        pins = [pin_state(t) for t in tags] + ["pinned" if c.sha256 else "unpinned" for c in own]
        papers = ", ".join(f"[{plain(p)}]({to(here, site.path_of(p))})" for p in site.reg.papers_of_model[name])
        rows.append([
            f"[{code(name)}]({name}.md)", papers, number(resolved.get("params")), number(resolved.get("macs")),
            "<br>".join(top1) or "unknown", inline("; ".join(data), cell=True) or "see the tags",
            ", ".join(map(plain, licences)) or "none", ", ".join(map(plain, hubs)) or "none", "<br>".join(pins) or "no weights",
        ])  # fmt: skip
    head = ["Model", "Papers", "Params", "MACs", "Top-1", "Data", "Licence", "Hub", "Bytes"]
    return (
        front(title="Models", search={"boost": 0.3}, hide=["navigation", "toc"])
        + "# Models\n\nA model is a backbone with the methods of some papers in it. Params and MACs come from the lock file; "
        "what was not resolved says *unknown*, and weights whose bytes are not fixed say *unpinned*.\n\n"
        + grid(head, rows, facets=["Licence"], noun="models")
        + "\nAny timm architecture takes methods too: [swap a norm](../guide/swap-a-norm.md).\n"
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
        ["Input", code(resolved["input"]) if resolved.get("input") else "unknown"],
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
