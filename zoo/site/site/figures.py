"""Figures from committed data (``docs/data/curves.json``), which ``python -m zoo.site.curves`` computes from the implementations."""

from __future__ import annotations

from typing import Any

from zoo.site import svg
from zoo.site.context import Site


def lines_of(figure: dict[str, Any]) -> list[svg.Line]:
    return [svg.Line(label=row["label"], x=row["x"], y=row["y"], dash=bool(row.get("dash"))) for row in figure["lines"]]


def figure(data: dict[str, Any], identity: str = "") -> str:
    """One committed figure as inline SVG."""
    if data["type"] == "cube":
        return svg.cube(data["shared"], title=data["title"], description=data["description"], identity=identity)
    if data["type"] == "panels":
        maps = [(p["label"], p["cells"], p.get("mark")) for p in data["panels"]]
        return svg.panels(
            maps, title=data["title"], description=data["description"], identity=identity, cell=data.get("cell", 12)
        )
    return svg.plot(
        lines_of(data), title=data["title"], x_label=data["x_label"], y_label=data["y_label"],
        description=data.get("description", ""), identity=identity, levels=data.get("levels", ()),
    )  # fmt: skip


def figures(site: Site, paper: str) -> str:
    """Figures section of a paper's page; empty when nothing can be drawn of its methods."""
    out = []
    for method in site.reg.methods_of.get(paper, ()):
        drawn = [*site.curves.get(method, {}).get("figures", ()), *site.densities.get(method, {}).get("figures", ())]
        for i, data in enumerate(drawn):
            name = f"figure-{method}-{i}".replace("_", "-")
            out.append(f"**{data['title'].replace('_', '&#95;')}**\n\n{figure(data, name)}\n")
            if note := data.get("note"):
                out.append(note + "\n")
            if widget := data.get("widget"):
                out.append(f'<div class="zoo-widget" data-widget="{widget}" data-figure="{name}"></div>\n')
    if not out:
        return ""
    return "Computed from the implementation itself, by `python -m zoo.site.curves`.\n\n" + "\n".join(out)


def overlays(site: Site, category: str) -> str:
    """All curves of a category that share their axes, over one another; equal cubes once, with all who share them."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    cubes: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for paper in site.in_category(category):
        for method in site.reg.methods_of.get(paper, ()):
            for data in site.curves.get(method, {}).get("figures", ()):
                if data["type"] == "cube":
                    cubes.setdefault(str(data["shared"]), (data, []))[1].append(method)
                elif group := data.get("group") or (data.get("levels") and category == "optimizers" and data["title"]):
                    groups.setdefault(group.partition(":")[0], []).append((method, data))
    out = []
    for group, members in groups.items():
        if len(members) < 2:
            continue
        lines = [svg.Line(label=m, x=d["lines"][0]["x"], y=d["lines"][0]["y"]) for m, d in members]
        data = members[0][1]
        out.append(f"### {group[:1].upper()}{group[1:]}\n")
        for start in range(0, len(lines), 8):  # eight colours
            out.append(
                svg.plot(
                    lines[start : start + 8], title=group, x_label=data["x_label"], y_label=data["y_label"],
                    levels=data.get("levels", ()), marks=bool(data.get("levels")),
                ) + "\n"
            )  # fmt: skip
    if cubes:
        drawn = "".join(
            svg.cube(
                d["shared"],
                title=f"{', '.join(names)}: {d['title']}",
                description=d["description"],
                caption=", ".join(names),
            )
            for d, names in cubes.values()
        )
        out.append(
            "Which elements of a feature map share statistics with the marked one, found by changing one element at a "
            f'time in training mode:\n\n<div class="zoo-cubes">{drawn}</div>\n'
        )
    return "\n".join(out)
