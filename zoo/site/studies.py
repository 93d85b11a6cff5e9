"""Tables that programs of zoo measure over several methods and commit under ``docs/data``; a page shows one that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.site import svg
from zoo.site.context import Site
from zoo.site.text import brief, code, inline, plain, spread, table


def _value(value: Any) -> str:
    if isinstance(value, dict) and {"mean", "std"} <= set(value):
        return spread(value["mean"], value["std"])
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return brief(float(value))
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return "" if value is None else plain(value)


def _told(data: dict[str, Any], columns: list[str]) -> str:
    """Setting, command, and what each column means."""
    e = data.get("environment", {})
    where = ", ".join(f"{k} {e[k]}" for k in ("python", "torch", "zoo") if k in e)
    lines = [
        f"- **{plain(c.replace('_', ' '))}**: {inline(data['fields'][c])}\n"
        for c in columns
        if c in data.get("fields", {})
    ]
    return (
        f"{inline(data.get('setting', ''))}. {code(data.get('command', ''))}, {plain(where)}.\n\n"
        + "".join(lines)
        + "\n"
    )


def generative(site: Site) -> str:
    """Autoencoder, VAE and GAN on the same data: figures, and samples drawn as they came out."""
    data = site.data("generative_compare")
    rows: list[dict[str, Any]] = data.get("rows", [])
    if not rows:
        return ""
    columns = [c for c in rows[0] if c not in ("model", "samples")]
    real = [{"model": "real test images", **data["real"]}] if data.get("real") else []
    shown = [[plain(r["model"]), *(_value(r.get(c)) for c in columns)] for r in [*rows, *real]]
    maps = [(str(r["model"]), picture(r["samples"]), None) for r in rows if r.get("samples")]
    said = "Eight samples each of the first seed, not chosen; 8 x 8 pixels, stronger colour is more ink."
    drawn = svg.panels(maps, title="Samples", description=said, cell=6) if maps else ""
    return (
        _told(data, columns)
        + table(["Model", *(plain(c.replace("_", " ")) for c in columns)], shown)
        + (f'\n<div class="zoo-samples">{drawn}</div>\n' if drawn else "")
    )  # fmt: skip


def picture(samples: list[str], side: int = 8) -> list[str]:
    """Images of one hexadecimal digit a pixel, side by side with a gap, as digits 0 to 5."""
    return [
        "0".join("".join(str(round(int(p, 16) / 3)) for p in image[side * r : side * (r + 1)]) for image in samples)
        for r in range(side)
    ]


def babi(site: Site) -> str:
    """Error of each task, by one network a task and by one for all."""
    data, joint = site.data("babi_table"), site.data("babi_joint")
    rows: list[dict[str, Any]] = data.get("rows", [])
    if not rows:
        return ""
    columns = [c for c in rows[0] if c not in ("task", "name")]
    shown = [[f"{plain(r['task'])} {plain(r['name'])}", *(_value(r.get(c)) for c in columns)] for r in rows]
    if data.get("mean"):
        shown.append(["**mean**", *(_value(data["mean"].get(c)) for c in columns)])
    head = ["Task", *(plain(c.replace("_", " ")) for c in columns)]
    told = _told(data, columns)
    if [r["task"] for r in joint.get("rows", [])] == [r["task"] for r in rows]:
        together = [*(r["memn2n"] for r in joint["rows"]), *([joint["mean"]] if data.get("mean") else [])]
        head.insert(2, "memn2n, all tasks together")
        for line, value in zip(shown, together, strict=True):
            line.insert(2, _value(value))
        told += f"All tasks together: {inline(joint['setting'])}.\n\n"
    return f"{inline(data.get('what', ''))}. {told}{table(head, shown)}"


#: Paper -> section below its claims.
OF_PAPER: dict[str, Callable[[Site], str]] = {"babi": babi}
#: Comparison -> section below its facts.
OF_COMPARISON: dict[str, Callable[[Site], str]] = {"autoencoder-vs-vae-vs-gan": generative}
