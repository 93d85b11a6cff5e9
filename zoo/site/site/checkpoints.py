"""Weights: what is known of each, what is not, and whether its bytes are pinned."""

from __future__ import annotations

import re
from typing import Any

from zoo.registry.schema import Checkpoint
from zoo.site.context import Site, to
from zoo.site.text import attr, code, inline, number, plain, table

HEADERS = ["Weights", "Data", "Top-1", "Params", "MACs", "Input", "Classes", "Licence", "Bytes"]

#: Data sets by the words that timm's tags use.
_DATA = {
    "in1k": "ImageNet-1k", "in12k": "ImageNet-12k", "in21k": "ImageNet-21k", "in22k": "ImageNet-22k", "laion2b": "LAION-2B",
    "laion400m": "LAION-400M", "webli": "WebLI", "openai": "OpenAI's pairs", "datacompxl": "DataComp-XL", "dfn2b": "DFN-2B",
    "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M", "lvd": "LVD", "sat493m": "SAT-493M", "m38m": "Merged-38M", "coco": "COCO",
    "ig1b": "Instagram, 1 B", "swsl": "Instagram, 940 M", "sa1b": "SA-1B", "yfcc100m": "YFCC-100M", "cc12m": "CC-12M",
}  # fmt: skip


def data_of(tag: str) -> str:
    """Training data as the tag names it, first to last: ``..in21k_ft_in1k`` is pre-trained on 21k; empty when it says nothing."""
    words = [_DATA[w] for w in re.split(r"[._]", tag.partition(".")[2]) if w in _DATA]
    return " → ".join(dict.fromkeys(words))


def pin_state(record: dict[str, Any]) -> str:
    """``pinned`` only with commit and SHA-256; a commit alone is said to be that."""
    commit, digest = record.get("commit"), record.get("sha256")
    if commit and digest:
        return f"pinned: commit {code(commit[:7])}, SHA-256 {code(digest[:8])}"
    if commit:
        return f"commit {code(commit[:7])} only"
    return "unpinned"


def _size(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list | tuple) else "unknown"


def top1(value: Any, size: Any = None) -> str:
    """ImageNet-1k top-1 in percent, with the input size at which it was measured."""
    if value is None:
        return "unknown"
    return f"{value:.1f}" + (f" at {size}" if size else "")


def breakable(name: str) -> str:
    """HTML of a long name that may break after its separators."""
    return re.sub(r"[/._](?=\w)", lambda m: m[0] + "<wbr>", attr(name)).replace("_", "&#95;")


def timm_row(site: Site, tag: str) -> list[str]:
    """One of timm's own weights, as far as the lock file knows it."""
    record = site.reg.lock["timm"].get(tag, {})
    hub = record.get("hub_id")
    shown = f'<a href="https://huggingface.co/{hub}">{breakable(hub)}</a>' if _safe(hub) else breakable(tag)
    return [
        shown, data_of(tag) or "unknown", top1(record.get("top1"), record.get("top1_size")), number(record.get("params")),
        number(record.get("macs")), _size(record.get("input_size")), attr(record.get("num_classes", "unknown")),
        attr(record.get("licence") or "unknown"), pin_state(record),
    ]  # fmt: skip


def _safe(hub: Any) -> bool:
    return isinstance(hub, str) and all(c.isalnum() or c in "._-/" for c in hub)


def own_row(site: Site, model: str, checkpoint: Checkpoint) -> list[str]:
    """A declared checkpoint, bundled or on the Hub."""
    resolved = site.reg.lock["models"].get(model, {})
    if checkpoint.repo is None:
        where = f"{code(checkpoint.tag)}, bundled, {number(checkpoint.size)}B"
        pinned = f"pinned: SHA-256 {code((checkpoint.sha256 or '')[:8])}"
    else:
        where = f"[{plain(checkpoint.repo)}](https://huggingface.co/{checkpoint.repo})"
        pinned = pin_state({"commit": checkpoint.commit, "sha256": checkpoint.sha256})
    size = checkpoint.input.size if checkpoint.input else None
    found = [
        f"{m.value:.4g} {plain(m.unit or '')}<br>({plain(m.dataset)})"
        for m in checkpoint.metrics
        if m.name.casefold() in ("top-1", "top1")
    ]
    return [
        where, inline(checkpoint.trained_on, cell=True) or "unknown", "<br>".join(found) or "unknown", number(resolved.get("params")),
        number(resolved.get("macs")), _size(size), plain(checkpoint.classes if checkpoint.classes is not None else "unknown"),
        plain(checkpoint.licence), pinned,
    ]  # fmt: skip


def model_rows(site: Site, name: str) -> list[list[str]]:
    """All checkpoints of a model; what the lock knows of the model stands in where it knows nothing of a tag."""
    own, resolved = site.reg.model(name).checkpoints, site.reg.lock["models"].get(name, {})
    rows = [timm_row(site, t) for t in own.timm] + [own_row(site, name, c) for c in (*own.hub, *own.bundled)]
    for row in rows:
        for column, field in (("Params", "params"), ("MACs", "macs")):
            at = HEADERS.index(column)
            # MACs hold at one input size only
            if row[at] == "unknown" and (
                field == "params" or row[HEADERS.index("Input")] == _size(resolved.get("input"))
            ):
                row[at] = number(resolved.get(field))
    return rows


def method_weights(site: Site, paper: str, here: str) -> str:
    """The Checkpoints section of a paper: its models in one table, then timm's weights that realise a method."""
    out, rows, bare = [], [], []
    names = site.reg.models_of.get(paper, ())
    for model in names:
        link = f"[{code(model)}]({to(here, f'models/{model}.md')})"
        found = model_rows(site, model)
        rows += [[link, *row] for row in found]
        bare += [] if found else [link]
    if rows:
        first = next(m for m in names if model_rows(site, m))
        out.append(table(["Model", *HEADERS], rows))
        out.append(f'```python\nimport zoo\n\nmodel = zoo.create("{first}", pretrained=True)\n```\n')
    if bare:
        out.append("Models without weights: " + ", ".join(bare) + ".\n")
    for method in site.methods_of(paper):
        tags = site.reg.lock["weights"].get(method.id, ())
        if not tags and method.weights is None:
            continue
        why = inline(method.weights.why) if method.weights else ""
        if tags:
            out.append(_long(f"timm's weights with {method.id} ({len(tags)})", why, [timm_row(site, t) for t in tags]))
        else:
            patterns = ", ".join(code(p) for p in method.weights.timm) if method.weights else ""
            out.append(f"{why} Patterns of timm tags: {patterns}; not resolved yet.\n")
    return "\n".join(out) if out else "No published weights are known for this method."


def _long(title: str, why: str, rows: list[list[str]]) -> str:
    """Hundreds of rows, folded, as HTML: a Markdown table of this size costs half a second of the build."""
    kept = [i for i in range(len(HEADERS)) if any(row[i] != "unknown" for row in rows)]
    if "`" in "".join(c for row in rows for c in row):  # short hashes
        rows = [[re.sub(r"`([^`]*)`", r"<code>\1</code>", c) for c in row] for row in rows]
    head = "".join(f"<th>{HEADERS[i]}</th>" for i in kept)
    body = "".join("<tr>" + "".join(f"<td>{row[i]}</td>" for i in kept) + "</tr>" for row in rows)
    return (
        f"{why}\n\n<details data-search-exclude><summary>{attr(title)}</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>\n"
    )
