"""Figures: up to date with the implementations, valid XML, no colour of their own, and right where the answer is known."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from zoo.registry.lookup import registry
from zoo.site import curves, svg
from zoo.site.context import Site
from zoo.site.pages import pages
from zoo.site.sources import meaning

ROOT = Path(__file__).resolve().parents[2]
DATA = json.loads((ROOT / "docs" / "data" / "curves.json").read_text())["methods"]


def test_curves_are_up_to_date() -> None:
    reg = registry()
    wanted = {m for m in reg.raw.methods if reg.raw.methods[m]["kind"] in curves.DRAWN}
    stale = [m for m in sorted(wanted) if DATA.get(m, {}).get("key") != curves.key_of(reg.method(m))]
    assert stale == [], "run python -m zoo.site.curves"
    assert set(DATA) == wanted


def test_signatures_are_up_to_date() -> None:
    found = json.loads((ROOT / "docs" / "data" / "signatures.json").read_text())["targets"]
    fresh = curves.signatures(registry())["targets"]
    assert set(found) == set(fresh)
    same = [t for t in found if found[t]["version"] == fresh[t]["version"]]
    assert {t: found[t] for t in same} == {t: fresh[t] for t in same}, "run python -m zoo.site.curves"


@pytest.mark.parametrize("method", sorted(set(DATA) & {"group_norm", "siren", "imae", "lamb", "sgdr", "planar_flow"}))
def test_recomputed(method: str) -> None:
    fresh = curves.draw(registry().method(method))["figures"]
    assert json.loads(json.dumps(fresh)) == DATA[method]["figures"]


def test_emphasis_of_imae_is_the_equation() -> None:
    line = DATA["imae"]["figures"][0]["lines"][0]
    for p, weight in zip(line["x"], line["y"], strict=True):
        assert math.isclose(weight, math.exp(8 * p * (1 - p)), rel_tol=2e-3)


def test_sine_and_its_derivative() -> None:
    value, slope = DATA["siren"]["figures"][0]["lines"]
    for x, f, d in zip(value["x"], value["y"], slope["y"], strict=True):
        assert math.isclose(f, math.sin(30 * x), abs_tol=2e-2)
        assert math.isclose(d, 30 * math.cos(30 * x), abs_tol=0.5)


def test_cubes_where_the_axes_are_known() -> None:
    def axes(method: str) -> tuple[int, int, int]:
        cube = DATA[method]["figures"][0]["shared"]
        samples = sum(any(any(row) for row in sample) for sample in cube)
        channels = sum(any(cube[n][c][s] for n in range(3) for s in range(4)) for c in range(6))
        positions = sum(any(cube[n][c][s] for n in range(3) for c in range(6)) for s in range(4))
        return samples, channels, positions

    known = {
        "batch_norm": (3, 1, 4), "group_norm": (1, 3, 4), "instance_norm": (1, 1, 4), "layer_norm": (1, 6, 1),
        "layer_norm_all": (1, 6, 4), "positional_norm": (1, 6, 1),
    }  # fmt: skip
    for method, expected in known.items():
        if method in DATA:
            assert axes(method) == expected, method


def test_every_svg_is_sound(site: Site) -> None:
    count = 0
    for path, text in pages(site).items():
        for match in re.finditer(r"<svg.*?</svg>", text, re.DOTALL):
            if 'aria-hidden="true"' in match[0][:60]:
                continue
            root = ET.fromstring(match[0])
            count += 1
            assert root.findtext("title"), path
            assert root.findtext("desc"), path
            assert root.get("role") == "img", path
            assert root.get("aria-label"), path
            assert not re.search(r"#[0-9a-fA-F]{3,6}\b|rgb\(|style=", match[0]), path
            assert not re.search(r'[ "](nan|inf)', re.sub(r"<(title|desc|text)[^>]*>[^<]*", "", match[0])), path
    assert count > 10


def test_plot_marks_where_the_data_are() -> None:
    drawn = svg.plot(
        [svg.Line("a", [0, 1], [0, 2]), svg.Line("b", [0, 1], [1, None])], title="t<", x_label="x", y_label="y"
    )
    root = ET.fromstring(re.search(r"<svg.*?</svg>", drawn, re.DOTALL)[0])  # type: ignore[index]
    assert root.find("title").text == "t<"  # type: ignore[union-attr]
    points = [p.get("d") for p in root.iter("path") if (p.get("class") or "").startswith("l ")]
    assert len(points) == 1, "one value is no line"
    (x0, y0), (x1, y1) = ([float(v) for v in p.split()] for p in points[0][1:].split("L"))
    assert x1 > x0
    assert y1 < y0, "up, since SVG counts downwards"
    assert svg.plot([], title="t", x_label="x", y_label="y") == ""


def test_ticks_are_round() -> None:
    assert svg._ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg._ticks(3, 3) == [3]


def test_only_a_change_of_the_computation_makes_a_figure_stale(tmp_path: Path) -> None:
    file = tmp_path / "m.py"

    def of(text: str) -> str:
        file.write_text(text)
        return meaning(file)

    base = of('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    return x + 1\n')
    assert of('"""Other."""\n\n\ndef f(x):\n    # why\n    """Say more."""\n    return (x + 1)\n') == base
    assert of('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    return x + 2\n') != base
    assert of('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    y = "text"\n    return x + 1\n') != base
