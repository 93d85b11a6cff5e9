"""A small valid registry in a temporary folder, for tests of the machinery."""

from __future__ import annotations

from pathlib import Path

PAGE = """---
title: {title}
authors: [Ada Lovelace, Émile Borel]
venue: {venue}
year: {year}
{number}
summary: {summary}
{more}---
Notes on {title}. Statistics are taken over zebras.

## Method

$$y = x$$

## When to use it

Always.

## Where re-implementations go wrong

- Nowhere.
"""

REGISTRY = """methods:
  group_norm: {paper: group_norm, kind: norm, target: "timm.layers:GroupNorm", defaults: {num_groups: 32}}
  layer_norm:
    paper: layer_norm
    kind: norm
    target: timm.layers:LayerNorm2d
    variants: {channels_last: "torch.nn:LayerNorm"}
  soft_step: {paper: steps, kind: activation, target: "torch.nn:Softplus", aliases: [plus step]}
  hard_step: {paper: steps, kind: activation, target: "torch.nn:Hardtanh"}
models:
  gn_resnet50:
    backbone: resnet50
    swaps: {norm: group_norm}
    aliases: [resnet50-groupnorm]
    checkpoints:
      timm: [resnet50_gn.a1h_in1k]
"""


def page(
    root: Path,
    category: str,
    name: str,
    *,
    title: str,
    year: int = 2018,
    venue: str = "ECCV",
    number: str = "",
    summary: str = "A summary.",
    more: str = "",
) -> Path:
    folder = root / "catalog" / category
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    number = number or f"url: https://example.org/{name}"
    path.write_text(
        PAGE.format(title=title, venue=venue, year=year, number=number, summary=summary, more=more), encoding="utf-8"
    )
    return path


def make(root: Path) -> Path:
    page(
        root,
        "normalization",
        "group_norm",
        title="Group Normalization",
        number='arxiv: "1803.08494"',
        more="aliases: [gn]\n",
    )
    page(root, "normalization", "layer_norm", title="Layer Normalization", year=2016, venue="arXiv", number='arxiv: "1607.06450"',
         more="published_as: preprint\nrelations:\n  special_case_of: {group_norm: one group}\n")  # fmt: skip
    page(root, "activations", "steps", title="Soft and Hard Steps", year=2020)
    (root / "registry.yaml").write_text(REGISTRY, encoding="utf-8")
    return root
