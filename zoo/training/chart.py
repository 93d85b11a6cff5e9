"""Line chart of a comparison as a stand-alone SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 56, 170, 40, 46
#: Colours that people with the common colour blindnesses can tell apart (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a00")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def chart(curves: Mapping[str, Sequence[float]], *, title: str, x_label: str, y_label: str) -> str:
    """One line a curve, its x from 1 on, with a legend ordered as the lines end.

    Args:
        curves: name to values.
        title: first line, and text alternative.
        x_label: under the horizontal axis.
        y_label: beside the vertical axis.

    Raises:
        ValueError: no curve, or an empty one.
    """
    if not curves or not all(len(values) for values in curves.values()):
        raise ValueError("a chart needs at least one curve with at least one value")
    every = [v for values in curves.values() for v in values]
    low, high = min(every), max(every)
    low, high = (low - 1, high + 1) if high - low < 1e-9 else (low, high)
    most = max(len(values) for values in curves.values())
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(i: float, value: float) -> tuple[float, float]:
        across = 0.5 if most == 1 else (i - 1) / (most - 1)
        return LEFT + wide * across, TOP + tall * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<title id="t">{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for k in range(6):
        value = low + (high - low) * k / 5
        _, y = at(1, value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for i in sorted({1, most, *(round(1 + (most - 1) * k / 4) for k in range(5))}):
        x, _ = at(i, low)
        parts.append(f'<text x="{x:.1f}" y="{TOP + tall + 18}" text-anchor="middle">{i}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(14 {TOP + tall / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    styles = {name: (COLOURS[i % 8], DASHES[i // 8 % 4]) for i, name in enumerate(curves)}
    for name, values in curves.items():
        colour, dash = styles[name]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(i, v) for i, v in enumerate(values, 1)))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}">'
            f"<title>{escape(name)}: {values[-1]:.4g} at the end</title></polyline>"
        )
    for row, name in enumerate(sorted(curves, key=lambda n: -curves[n][-1])):
        colour, dash = styles[name]
        x, y = LEFT + wide + 14, TOP + 8 + 20 * row
        parts.append(f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{x + 28}" y="{y + 4}">{escape(name)} {curves[name][-1]:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
