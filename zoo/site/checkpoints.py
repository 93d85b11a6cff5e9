"""Weights: what is known of each, what is not, and whether its bytes are pinned."""

from __future__ import annotations

from typing import Any

from zoo.registry.schema import Checkpoint
from zoo.site.context import Site, to
from zoo.site.text import code, inline, number, plain, table

HEADERS = ["Checkpoint", "Hub", "Licence", "Params", "MACs", "Input", "Classes", "Bytes pinned"]


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


def timm_row(site: Site, tag: str) -> list[str]:
    """One of timm's own weights, as far as the lock file knows it."""
    record = site.reg.lock["timm"].get(tag, {})
    hub = record.get("hub_id")
    shown = f"[{plain(hub)}](https://huggingface.co/{hub})" if _safe(hub) else "unknown"
    return [
        code(tag), shown, plain(record.get("licence") or "unknown"), number(record.get("params")), number(record.get("macs")),
        _size(record.get("input_size")), plain(record.get("num_classes", "unknown")), pin_state(record),
    ]  # fmt: skip


def _safe(hub: Any) -> bool:
    return isinstance(hub, str) and all(c.isalnum() or c in "._-/" for c in hub)


def own_row(site: Site, model: str, checkpoint: Checkpoint) -> list[str]:
    """A declared checkpoint, bundled or on the Hub."""
    resolved = site.reg.lock["models"].get(model, {})
    if checkpoint.repo is None:
        where = f"bundled, {checkpoint.size} bytes"
        pinned = f"pinned: SHA-256 {code((checkpoint.sha256 or '')[:8])}"
    else:
        where = f"[{plain(checkpoint.repo)}](https://huggingface.co/{checkpoint.repo})"
        pinned = pin_state({"commit": checkpoint.commit, "sha256": checkpoint.sha256})
    size = checkpoint.input.size if checkpoint.input else None
    return [
        code(checkpoint.tag), where, plain(checkpoint.licence), number(resolved.get("params")), number(resolved.get("macs")),
        _size(size), plain(checkpoint.classes if checkpoint.classes is not None else "unknown"), pinned,
    ]  # fmt: skip


def model_rows(site: Site, name: str) -> list[list[str]]:
    """All checkpoints of a model."""
    own = site.reg.model(name).checkpoints
    return [timm_row(site, t) for t in own.timm] + [own_row(site, name, c) for c in (*own.hub, *own.bundled)]


def method_weights(site: Site, paper: str, here: str) -> str:
    """The Checkpoints section of a paper: its models, then timm's weights that realise a method."""
    out = []
    for model in site.reg.models_of.get(paper, ()):
        rows = model_rows(site, model)
        link = f"[{code(model)}]({to(here, f'models/{model}.md')})"
        if rows:
            out.append(f"### {link} {{data-search-exclude}}\n\n{table(HEADERS, rows)}")
            out.append(f'```python\nimport zoo\n\nmodel = zoo.create("{model}", pretrained=True)\n```\n')
        else:
            out.append(f"### {link} {{data-search-exclude}}\n\nNo weights are known.\n")
    for method in site.methods_of(paper):
        tags = site.reg.lock["weights"].get(method.id, ())
        if not tags and method.weights is None:
            continue
        why = inline(method.weights.why) if method.weights else ""
        rows = [timm_row(site, t) for t in tags]
        title = f"timm's weights with {method.id}" + (f" ({len(rows)})" if rows else "")
        if rows:
            body = table(HEADERS, rows).replace("\n", "\n    ")
            out.append(f'??? note "{plain(title)}"\n\n    {why}\n\n    {body}\n')
        else:
            patterns = ", ".join(code(p) for p in method.weights.timm) if method.weights else ""
            out.append(f"{why} Patterns of timm tags: {patterns}; not resolved yet.\n")
    return "\n".join(out) if out else "No published weights are known for this method."
