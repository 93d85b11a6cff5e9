"""Category pages: what to take when, the papers, their figures, and facts about each implementation."""

from __future__ import annotations

from typing import Any

from zoo.registry.schema import Method
from zoo.site.boards import results
from zoo.site.context import TITLES, Site, to
from zoo.site.evidence import parity_of, status_chip
from zoo.site.figures import overlays
from zoo.site.noise import noise_table
from zoo.site.text import brief, code, front, inline, plain, table

#: What one sentence says about choosing, where no table of decisions is written.
HINTS = {
    "activations": "Coordinates in, signals out: `siren`. Images: `frelu` looks at a neighbourhood and costs a depthwise convolution.",
    "pooling": "Fine-grained classes and little spatial structure left: covariance pooling. Inputs of many sizes: `spatial_pyramid_pooling`.",
    "losses": "Calibration first: `label_smoothing`. It is no cure for wrong labels.",
}  # fmt: skip
#: What backs a line of advice, by the status of its claim.
BACKING = {"reproduced": "measured", "partly": "measured", "refuted": "refuted here", "not run": "the paper's word"}


def category_page(site: Site, category: str) -> str:
    """Decisions, papers, figures, methods."""
    here, names = f"{category}/index.md", site.in_category(category)
    link = site.linker(here)
    years = [site.reg.raw.papers[p]["year"] for p in names]
    span = str(min(years)) if min(years) == max(years) else f"{min(years)} to {max(years)}"
    weights = any(site.pretrained(p) for p in names)
    rows = [
        [f"[{plain(site.paper(p).title)}]({to(here, site.path_of(p))}) {code(p)}", str(site.paper(p).year),
         inline(site.paper(p).summary, link, cell=True), *(["yes" if site.pretrained(p) else "no"] if weights else []),
         status_chip(site.status(p))]
        for p in names
    ]  # fmt: skip
    head = ["Paper", "Year", "What it does", *(["Weights"] if weights else []), "Claims"]
    out = [
        front(title=TITLES[category], search={"boost": 0.3}, hide=["toc"]),
        f"# {TITLES[category]}\n\n{len(names)} paper{'s' if len(names) != 1 else ''}, {span}.\n",
    ]
    if lines := decisions(site, category):
        out.append(f"## Which one\n\n{lines}")
    elif hint := HINTS.get(category):
        out.append(f'!!! tip "Which one"\n\n    {inline(hint, link)}\n')
    out.append(f'## Papers\n\n<div class="zoo-papers" markdown="block">\n\n{table(head, rows)}\n</div>\n')
    if category == "normalization" and (facts := norms(site, here)):
        out.append(f"## What each norm reads and keeps\n\n{facts}")
    if category == "optimizers" and (facts := _steps(site, here)):
        out.append(f"## What a step costs and keeps\n\n{facts}")
    if category == "noisy_labels" and (measured := noise_table(site, here)):
        out.append(f"## One protocol, five kinds of noise\n\n{measured}")
    if drawn := overlays(site, category):
        out.append(f"## Side by side\n\n{drawn}")
    out.append(f"## Methods\n\n{_comparison(site, category, here)}")
    return "\n".join(out)


def decisions(site: Site, category: str) -> str:
    """``docs/data/decisions.json`` as a table; what backs a line follows from the evidence, never from the file."""
    here, rows = f"{category}/index.md", []
    link = site.linker(here)
    for line in site.data("decisions").get(category, {}).get("lines", ()):
        names = [n for n in line.get("take") or line.get("avoid") or [] if site.page_of(n)]
        if not names or line.get("claim", "").partition(".")[0] not in {"", *site.reg.raw.papers}:
            continue  # another registry than the one that ships
        word = "" if line.get("take") else "not "
        shown = ", ".join(inline(f"`{n}`", link) for n in names)
        rows.append([
            inline(line["when"], link, cell=True), f"{word}{shown}: {inline(line['because'], link, cell=True)}", _backing(site, line, here)
        ])  # fmt: skip
    if not rows:
        return ""
    return (
        f'<div class="zoo-decide" markdown="block">\n\n{table(["When", "Take", "On what ground"], rows)}\n</div>\n\n'
        "*Measured* links to the figures, on small real data; *the paper's word* was not measured here.\n"
    )


def _backing(site: Site, line: dict[str, Any], here: str) -> str:
    if "claim" not in line:
        return f"the paper's word ({inline(line['source'], cell=True)})"
    paper, _, claim = line["claim"].partition(".")
    record = site.evidence(paper).claims.get(claim)
    status = record.status if record else "not run"
    return f"[{BACKING[status]}]({to(here, site.path_of(paper))}#claim-{claim}) {status_chip(status)}"


# --------------------------------------------------------------------------- norms


def norms(site: Site, here: str) -> str:
    """Facts that were measured on the layers themselves (``docs/data/norm_table.json``), with the cost from the benchmark."""
    data = site.data("norm_table")
    found: dict[str, dict[str, Any]] = {n: f for n, f in data.get("norms", {}).items() if n in site.reg.raw.methods}
    if not found:
        return ""
    link = site.linker(here)
    rows = []
    for name, facts in found.items():
        reads = ", ".join(facts["reads"]) or ("earlier batches" if facts["previous_batches"] else "nothing")
        if facts["reads"] != facts["reads_eval"]:
            reads += f"; evaluation: {', '.join(facts['reads_eval']) or 'stored values'}"
        rows.append([
            inline(f"`{name}`", link), inline(facts.get("use") or "", cell=True), reads, _yes(facts["train_equals_eval"]), _batch(facts),
            _least(facts), str(sum(facts["buffers"].values())), str(facts["parameters"]), _yes(facts["folds"]), _times(facts.get("cost")),
        ])  # fmt: skip
    head = ["Norm", "For", "Statistics over", "Train = eval", "Batch", "Needs", "Stored", "Learned", "Folds", "Cost"]
    from zoo.site.lists import grid

    return (
        "Found by changing one value at a time in the layers as they are. *Batch*: whether another sample changes the output, or only "
        "the gradient. *Needs*: the smallest input that trains with a finite gradient. *Stored* and *learned*: values for "
        f"{data.get('channels', 64)} channels. *Folds*: `zoo.fold` takes it into the convolution before. *Cost*: forward and backward "
        "against `nn.BatchNorm2d`, from the [benchmarks](../benchmarks.md).\n\n"
        + grid(head, rows, facets=["Train = eval", "Batch", "Needs", "Folds"], noun="norms")
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _batch(facts: dict[str, Any]) -> str:
    if facts["batch_dependent"]:
        return "yes"
    return "gradient only" if facts["batch_dependent_gradient"] else "no"


def _least(facts: dict[str, Any]) -> str:
    if facts["one_value"]:
        return "one value"
    return "one sample" if facts["one_sample"] else "two samples"


def _times(cost: float | None) -> str:
    return "–" if cost is None else brief(cost)


# --------------------------------------------------------------------------- optimizers


def _steps(site: Site, here: str) -> str:
    """State from the optimizers themselves (``docs/data/curves.json``), cost from the benchmarks."""
    rows = []
    measured = [r for data in results(site).values() for r in data.get("rows", []) if isinstance(r, dict)]
    for paper in site.in_category("optimizers"):
        for method in site.methods_of(paper):
            state = site.curves.get(method.id, {}).get("state")
            if state:
                starts = (f"{method.id} step", f"{method.id},", f"{method.id} ")
                timed = next(
                    (r for r in measured if str(r.get("name", "")).startswith(starts) and r.get("unit", "ms") == "ms"),
                    None,
                )
                cost = f"{brief(round(timed['ratio'], 2))} × {plain(timed['reference'])}" if timed else "not measured"
                kept = [f"{state[k]:g}" for k in ("per_parameter", "bytes_float32", "bytes_bfloat16")]
                rows.append([f"[{code(method.id)}]({to(here, site.path_of(paper))})", *kept, cost, method.backing])
    if not rows:
        return ""
    head = ["Optimizer", "Values kept a parameter", "Bytes, float32", "Bytes, bfloat16", "Step", "From"]
    return (
        "State was counted after a step of the optimizer itself: AdamW of torch keeps 2 values, 8 bytes in float32 and 4 in bfloat16. "
        "Times are from the [benchmarks](../benchmarks.md).\n\n" + table(head, rows)
    )


# --------------------------------------------------------------------------- methods


def _comparison(site: Site, category: str, here: str) -> str:
    """Facts about each implementation, read off the registry and the sources; a column without a fact is left out."""
    by_kind: dict[str, list[Method]] = {}
    for p in site.in_category(category):
        for method in site.methods_of(p):
            by_kind.setdefault(method.kind, []).append(method)
    out = []
    for kind, methods in by_kind.items():
        rows = []
        for m in methods:
            parity = next(iter(parity_of(site.evidence(m.paper), m.id)), None)
            error = code(f"{parity.error:.1g}") if parity else ("by test" if m.parity else "not run")
            rows.append([
                f"[{code(m.id)}]({to(here, site.path_of(m.paper))})", m.backing, " ".join(map(code, _parameters(site, m))),
                ", ".join(code(n) for n in m.needs), m.faithful_to.replace("_", " "), error,
            ])  # fmt: skip
        head = ["Method", "From", "Parameters", "Needs", "Follows", "Parity error"]
        kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
        shown = table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])
        out.append(f'### Kind {code(kind)}\n\n<div class="zoo-methods" markdown="block">\n\n{shown}\n</div>\n')
    return "\n".join(out)


def _parameters(site: Site, method: Method) -> list[str]:
    parameters = site.parameters(method.target) or {}
    return [
        f"{k}={method.defaults.get(k, v)}"
        for k, v in parameters.items()
        if v != "required" and k not in ("device", "dtype")
    ]
