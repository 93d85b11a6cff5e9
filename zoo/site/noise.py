"""The label noise table: every method under one protocol (``docs/data/cifar10_noisy.json``), beside published figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.site.context import Site, to
from zoo.site.text import plain, table

Figures = tuple[float | None, ...]
#: Test accuracy on all of CIFAR-10 as others report it: source and protocol, method, one figure a column.
PUBLISHED: tuple[tuple[str, dict[str, Figures]], ...] = (
    ("zjfheart/BadLabels, README; one protocol of its own, last epoch", {
        "cross_entropy": (82.55, 64.79, 41.43, 17.20, 77.04),
        "co_teaching": (89.03, 84.65, 57.95, 21.06, 56.33),
        "elr": (89.37, 87.78, 85.69, 46.71, 89.11),
        "dividemix": (96.04, 94.74, 94.56, 81.58, 93.50),
    }),
    ("shengliu66/ELR, README; ResNet-34", {"elr": (91.12, 91.43, 88.87, 80.69, 90.35)}),
    ("HanxunH/SCELoss-Reproduce, README; best epoch", {
        "cross_entropy": (84.70, 72.77, 54.14, 31.23, None),
        "sce": (89.96, 84.65, 73.77, 36.28, None),
    }),
    ("IMAE, Table 6; ResNet-56, last epoch", {
        "cross_entropy": (None, 63.3, None, None, None),
        "mae_loss": (None, 66.9, None, None, None),
        "imae": (None, 81.5, None, None, None),
    }),
)  # fmt: skip
COLUMNS = ("symmetric 20", "symmetric 40", "symmetric 60", "symmetric 80", "asymmetric 40")


def noise_table(site: Site, here: str) -> str:
    """Last and best accuracy by method and noise, then what was published; empty where nothing was measured."""
    data = site.data("cifar10_noisy")
    rows = data.get("rows", [])
    if not rows:
        return ""
    found = {(r["method"], r["noise"]): r for r in rows}
    methods = list(dict.fromkeys(r["method"] for r in rows))
    best = {noise: max((r["last"]["mean"] for r in rows if r["noise"] == noise), default=None) for noise in COLUMNS}
    body = []
    for method in methods:
        cells = [_link(site, method, here)]
        for noise in COLUMNS:
            cells.append(_cell(found.get((method, noise)), best[noise]))
        body.append(cells)
    out = [
        "Test accuracy in percent in the last epoch, mean ± standard deviation over seeds, in brackets in the epoch that a *noisy* "
        f"validation split found best. {_seeds(rows)}{_measured(data)}\n",
        table(["Method", *COLUMNS], body),
        "\nProtocol: recipe `cifar10_small`. CIFAR-10 re-encoded as JPEG, the first 300 training images of every class (10 of each "
        "held out clean for the methods that need them, a tenth as noisy validation), the first 200 test images of every class, a "
        "network of three convolutions, 20 epochs. Symmetric noise never keeps the true class; asymmetric is asym_cifar10. Every "
        "method has one setting in all columns; Co-teaching is told the rate, DivideMix warms up for 5 epochs. So small a setting "
        "shows what each loss does to wrong labels, not what it reaches at scale:\n",
        table(
            ["Published", *COLUMNS, "Source"],
            [
                [_link(site, m, here), *("" if v is None else f"{v:g}" for v in values), plain(source)]
                for source, figures in PUBLISHED for m, values in figures.items()
            ],
        ),
        "\nOther networks, ten times the images and more epochs, so compare columns and not cells. "
        "Run yours: `zoo compare --recipe cifar10_small --data FOLDER --noise symmetric_exclusive:0.4 --methods ce,gce,elr "
        "--set data.clean_per_class=10`; Co-teaching with `--set method.co_teaching.forget_rate=0.4` (the share of wrong labels), "
        "DivideMix with `--set method.dividemix.warmup=5`.\n",
        "Which labels are wrong? As many of the most suspected ones as there are wrong ones, and the percentage of them that is wrong; "
        "chance is the share of wrong labels. A method may reach a good accuracy and rank no better than chance:\n",
        table(["Suspects", *COLUMNS], [[_link(site, m, here), *_suspects(m, found)] for m in methods]),
    ]  # fmt: skip
    return "\n".join(out)


def _link(site: Site, method: str, here: str) -> str:
    if method not in site.reg.raw.methods:
        return "cross-entropy"
    return f"[{plain(method)}]({to(here, site.path_of(site.reg.raw.methods[method]['paper']))})"


def _measured(data: Mapping[str, Any]) -> str:
    """When and with what, where the record says so."""
    if "environment" not in data:
        return ""
    found = data["environment"]
    return f" Recorded {data['date']} on {found['platform']}, {found['device']}, torch {found['torch']}."


def _suspects(method: str, found: Mapping[tuple[str, str], dict[str, Any]]) -> list[str]:
    rows = [found.get((method, noise)) for noise in COLUMNS]
    return ["" if r is None or r["suspects"] is None else f"{r['suspects']['mean']:.1f}" for r in rows]


def _seeds(rows: list[dict[str, Any]]) -> str:
    """Which columns stand on which seeds."""
    columns: dict[tuple[int, ...], list[str]] = {}
    for noise in COLUMNS:
        seeds = tuple(sorted({s for r in rows if r["noise"] == noise for s in r["seeds"]}))
        if seeds:
            columns.setdefault(seeds, []).append(noise)
    said = []
    for seeds, names in sorted(columns.items(), key=lambda item: -len(item[0])):
        of = f" ({', '.join(names)})" if len(columns) > 1 else ""
        said.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}{of}")
    text = "; ".join(said)
    alone = any(len(seeds) == 1 for seeds in columns)
    return (
        text[0].upper() + text[1:] + ("; one seed tells orders, not differences of a point or two." if alone else ".")
    )


def _cell(row: dict[str, Any] | None, best: float | None) -> str:
    if row is None:
        return "not run"
    last = f"{row['last']['mean']:.1f}"
    if row["last"]["mean"] == best:
        last = f"**{last}**"
    if row["last"]["n"] > 1:
        last += f" ± {row['last']['std']:.1f}"
    return f"{last} ({row['best']['mean']:.1f})" if row["best"] is not None else last
