"""Small inline SVGs that follow the theme: colours are CSS classes, text alternatives come with every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.site.text import attr

WIDTH, HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 38


@dataclass(frozen=True)
class Line:
    """One polyline of a plot. ``dash`` marks derivatives and references."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dash: bool = False


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number with few characters: ``0.5``, ``1e-05``, ``200``."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def _finite(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    pairs = [
        (x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if y is not None and math.isfinite(y)
    ]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def plot(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    description: str = "",
    identity: str = "",
    levels: Sequence[Sequence[Sequence[float]]] = (),
    marks: bool = False,
) -> str:
    """A line plot as one ``<figure>``; empty when there is nothing finite to draw.

    Args:
        lines: what to draw; colours by position.
        title: the accessible name.
        x_label, y_label: axis names.
        description: the text alternative; by default start, end and extremes of every line.
        identity: ``id`` of the figure, for scripts.
        levels: polylines in the background: level curves, a grid.
        marks: a dot at the start of the first line and at the end of each.
    """
    xs, ys = _finite(lines)
    if not xs:
        return ""
    xs, ys = xs + [p[0] for loop in levels for p in loop], ys + [p[1] for loop in levels for p in loop]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    if y1 - y0 < 1e-12:
        y0, y1 = y0 - 0.5, y1 + 0.5
    pad = 0.04 * (y1 - y0)
    y0, y1 = y0 - pad, y1 + pad

    def px(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0 or 1) * (WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - _TOP - _BOTTOM)

    parts = []
    for tick in _ticks(y0, y1):
        y = f"{py(tick):.1f}"
        parts.append(f'<line class="g" x1="{_LEFT}" y1="{y}" x2="{WIDTH - _RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy=".32em" text-anchor="end">{short(tick)}</text>')
    for tick in _ticks(x0, x1):
        parts.append(f'<text x="{px(tick):.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<path class="a" d="M{_LEFT} {_TOP}V{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
    parts.append(f'<text x="{(_LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{attr(x_label)}</text>')
    parts.append(
        f'<text transform="translate(11 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{attr(y_label)}</text>'
    )
    for loop in levels:
        parts.append('<path class="lv" d="M' + "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in loop) + '"/>')
    for i, line in enumerate(lines):
        parts += [f'<path class="l c{i % 8}{" d" if line.dash else ""}" d="{d}"/>' for d in _paths(line, px, py)]
        if marks:
            ends = [(line.x[-1], line.y[-1]), *([(line.x[0], line.y[0])] if i == 0 else [])]
            parts += [f'<circle class="e c{i % 8}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3.5"/>' for x, y in ends]
    legend = "".join(
        f'<span class="k"><svg viewBox="0 0 24 8" aria-hidden="true"><path class="l c{i % 8}{" d" if line.dash else ""}" '
        f'd="M0 4H24"/></svg>{attr(line.label)}</span>'
        for i, line in enumerate(lines)
    )
    text = description or "; ".join(_said(line) for line in lines)
    figure_id = f' id="{attr(identity)}"' if identity else ""
    return (
        f'<figure class="zoo-plot"{figure_id}><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{attr(title)}">'
        f"<title>{attr(title)}</title><desc>{attr(text)}</desc>{''.join(parts)}</svg>"
        f"<figcaption>{legend}</figcaption></figure>"
    )


def _paths(line: Line, px, py) -> list[str]:  # type: ignore[no-untyped-def]
    """Path data, interrupted where a value is missing."""
    paths: list[list[str]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not math.isfinite(y):
            paths.append([])
        else:
            paths[-1].append(f"{px(x):.1f} {py(y):.1f}")
    return ["M" + "L".join(points) for points in paths if len(points) > 1]


def _said(line: Line) -> str:
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None and math.isfinite(y)]
    if not points:
        return f"{line.label}: no values"
    (xa, ya), (xb, yb) = points[0], points[-1]
    low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    return (
        f"{line.label}: {short(ya)} at {short(xa)}, {short(yb)} at {short(xb)}, "
        f"lowest {short(low[1])} at {short(low[0])}, highest {short(high[1])} at {short(high[0])}"
    )


def bars(rows: Sequence[tuple[str, float]], *, title: str, unit: str = "") -> str:
    """Horizontal bars with their values written out."""
    if not rows:
        return ""
    top = max(abs(v) for _, v in rows) or 1.0
    parts = []
    for i, (label, value) in enumerate(rows):
        y = 8 + 24 * i
        width = 230 * abs(value) / top
        parts.append(f'<text x="170" y="{y + 8}" dy=".32em" text-anchor="end">{attr(label)}</text>')
        parts.append(f'<rect class="f c0" x="178" y="{y}" width="{width:.1f}" height="16"/>')
        parts.append(f'<text x="{184 + width:.1f}" y="{y + 8}" dy=".32em">{short(value)}{attr(unit)}</text>')
    said = "; ".join(f"{label} {short(value)}{unit}" for label, value in rows)
    return (
        f'<figure class="zoo-plot"><svg viewBox="0 0 {WIDTH} {16 + 24 * len(rows)}" role="img" aria-label="{attr(title)}">'
        f"<title>{attr(title)}</title><desc>{attr(said)}</desc>{''.join(parts)}</svg></figure>"
    )


@dataclass(frozen=True)
class Ratio:
    """One bar of a benchmark: ours by the reference's, and what was aimed at."""

    label: str
    ratio: float
    target: float | None


def ratios(rows: Sequence[Ratio], *, title: str) -> str:
    """Bars of ratios with a line at 1 and a tick at each target; met and missed differ by colour and by word."""
    if not rows:
        return ""
    width, left, right = 720, 290, 110
    top = max(1.0, *(r.ratio for r in rows), *(r.target for r in rows if r.target is not None))

    def px(value: float) -> float:
        return left + (width - left - right) * value / top

    bottom = 24 + 22 * len(rows)
    parts = []
    for tick in _ticks(0, top):
        parts.append(f'<line class="g" x1="{px(tick):.1f}" y1="4" x2="{px(tick):.1f}" y2="{bottom - 16}"/>')
        parts.append(f'<text x="{px(tick):.1f}" y="{bottom}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<line class="a" x1="{px(1):.1f}" y1="4" x2="{px(1):.1f}" y2="{bottom - 16}"/>')
    for i, row in enumerate(rows):
        y = 8 + 22 * i
        missed = row.target is not None and row.ratio > row.target
        kind = "none" if row.target is None else "bad" if missed else "good"
        parts.append(
            f'<text x="{left - 8}" y="{y + 7}" dy=".32em" text-anchor="end">{attr(_cut(row.label, 46))}</text>'
        )
        parts.append(f'<rect class="f {kind}" x="{left}" y="{y}" width="{px(row.ratio) - left:.1f}" height="14"/>')
        if row.target is not None:
            parts.append(
                f'<line class="t" x1="{px(row.target):.1f}" y1="{y - 3}" x2="{px(row.target):.1f}" y2="{y + 17}"/>'
            )
        word = f"{_three(row.ratio)}, missed" if missed else _three(row.ratio)
        parts.append(f'<text x="{width - right + 14}" y="{y + 7}" dy=".32em">{word}</text>')
    said = "; ".join(
        f"{r.label} {_three(r.ratio)}" + ("" if r.target is None else f", target {short(r.target)}") for r in rows
    )
    return (
        f'<figure class="zoo-plot zoo-wide"><svg viewBox="0 0 {width} {bottom + 6}" role="img" aria-label="{attr(title)}">'
        f"<title>{attr(title)}</title><desc>{attr(said)}</desc>{''.join(parts)}</svg></figure>"
    )


def _three(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def panels(
    maps: Sequence[tuple[str, Sequence[str], Sequence[int] | None]],
    *,
    title: str,
    description: str,
    identity: str = "",
    cell: int = 12,
) -> str:
    """Small maps in a row, as letters (regions) or digits 0 to 5 (how much); each a figure of its own, so that they wrap.

    Args:
        maps: label, rows of characters, and the marked row and column or None.
        title: the accessible name.
        description: the text alternative, shown below.
        identity: ``id`` of the whole.
        cell: size of a cell.
    """
    drawn = "".join(_map(label, rows, mark, title, cell, description) for label, rows, mark in maps)
    figure_id = f' id="{attr(identity)}"' if identity else ""
    return (
        f'<figure class="zoo-maps"{figure_id}><div class="zoo-cubes">{drawn}</div>'
        f"<figcaption>{attr(description)}</figcaption></figure>"
    )


def _map(label: str, rows: Sequence[str], mark: Sequence[int] | None, title: str, cell: int, said: str) -> str:
    """One path a level; neighbours in a row are one rectangle."""
    runs: dict[str, list[str]] = {}
    for r, row in enumerate(rows):
        start = 0
        for c in range(1, len(row) + 1):
            if c == len(row) or row[c] != row[start]:
                if row[start] not in "0.":
                    x, w = start * cell, (c - start) * cell
                    runs.setdefault(row[start], []).append(f"M{x} {r * cell}h{w}v{cell}h-{w}z")
                start = c
    parts = [f'<path class="p p{level}" d="{"".join(d)}"/>' for level, d in sorted(runs.items())]
    if mark:
        parts.append(f'<rect class="pm" x="{mark[1] * cell}" y="{mark[0] * cell}" width="{cell}" height="{cell}"/>')
    width, height = cell * len(rows[0]), cell * len(rows)
    name = attr(f"{title}: {label}")
    return (
        f'<figure class="zoo-map"><svg viewBox="-1 -1 {width + 2} {height + 2}" role="img" aria-label="{name}"><title>{name}</title>'
        f"<desc>{attr(said)}</desc>"
        f'<rect class="fr" width="{width}" height="{height}"/>{"".join(parts)}</svg><figcaption>{attr(label)}</figcaption></figure>'
    )


# --------------------------------------------------------------------------- the axes cube


def _project(n: float, c: float, s: float) -> tuple[float, float]:
    """Oblique view: positions to the right, channels down, samples into the depth."""
    return 14 + 22 * s + 15 * n, 78 + 22 * c - 13 * n


def cube(
    shared: Sequence[Sequence[Sequence[float]]], *, title: str, description: str, identity: str = "", caption: str = ""
) -> str:
    """The feature map (N, C, positions) as a cube of cells; those that share statistics with the marked element are filled.

    Args:
        shared: ``shared[n][c][s]`` is 0 or 1; the marked element is ``(0, 0, 0)``.
        title: the accessible name.
        description: the text alternative.
        identity: ``id`` of the figure, for scripts.
        caption: shown below (default: the description).
    """
    samples, channels, positions = len(shared), len(shared[0]), len(shared[0][0])
    faces = []
    for n in reversed(range(samples)):
        for c in reversed(range(channels)):
            for s in range(positions):
                visible = [
                    face for face, seen in (("front", n == 0), ("top", c == 0), ("side", s == positions - 1)) if seen
                ]
                for face in visible:
                    faces.append(_face(face, n, c, s, shared[n][c][s] > 0, (n, c, s) == (0, 0, 0)))
    width, height = 30 + 22 * positions + 15 * samples, 100 + 22 * channels
    labels = (
        f'<text x="{14 + 11 * positions}" y="{height - 4}" text-anchor="middle">positions</text>'
        f'<text transform="translate(9 {78 + 11 * channels}) rotate(-90)" text-anchor="middle">channels</text>'
        f'<text x="{22 + 22 * positions + 15 * samples / 2:.0f}" y="{92 + 22 * channels - 13 * samples / 2:.0f}">samples</text>'
    )
    figure_id = f' id="{attr(identity)}"' if identity else ""
    return (
        f'<figure class="zoo-cube"{figure_id}><svg viewBox="0 0 {width + 40} {height}" role="img" aria-label="{attr(title)}">'
        f"<title>{attr(title)}</title><desc>{attr(description)}</desc>{''.join(faces)}{labels}</svg>"
        f"<figcaption>{attr(caption or description)}</figcaption></figure>"
    )


def _face(face: str, n: int, c: int, s: int, on: bool, marked: bool) -> str:
    if face == "front":
        corners = [_project(n, c, s), _project(n, c, s + 1), _project(n, c + 1, s + 1), _project(n, c + 1, s)]
    elif face == "top":
        corners = [_project(n, c, s), _project(n, c, s + 1), _project(n + 1, c, s + 1), _project(n + 1, c, s)]
    else:
        corners = [
            _project(n, c, s + 1),
            _project(n + 1, c, s + 1),
            _project(n + 1, c + 1, s + 1),
            _project(n, c + 1, s + 1),
        ]
    points = " ".join(f"{x:.0f},{y:.0f}" for x, y in corners)
    state = "m" if marked else "on" if on else "off"
    return f'<polygon class="{face} {state}" data-e="{n},{c},{s}" points="{points}"/>'
