"""The plots of docs/fleet.md: one panel for each figure, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .figures import FIGURES, Figure, curves
from .measure import Row

_COLUMNS, _WIDTH, _HEIGHT = 3, 270, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 28, 26
_LEGEND, _KEY = 34, 99

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 10px; fill: #59636e; }
  .page { fill: #ffffff; } .grid { stroke: #d1d9e0; }
  polyline, .key { fill: none; stroke-width: 1.8; }
  .line0 { stroke: #c8381f; } .line1 { stroke: #2f6fb3; } .line2 { stroke: #2c8a4b; } .line3 { stroke: #8a4fbf; }
  .line4 { stroke: #b07a00; } .line5 { stroke: #1b8a8f; } .line6 { stroke: #d0489b; } .line7 { stroke: #6b7280; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .small { fill: #9198a1; } .page { fill: #0d1117; } .grid { stroke: #3d444d; }
    .line0 { stroke: #ff8166; } .line1 { stroke: #6fa8e0; } .line2 { stroke: #5fc97f; } .line3 { stroke: #c095ee; }
    .line4 { stroke: #e3b341; } .line5 { stroke: #4cc9cf; } .line6 { stroke: #ff8fcf; } .line7 { stroke: #aab2bd; }
  }
"""


def svg(found: Mapping[str, Sequence[Row]], keys: int) -> str:
    """Return the plots of the ticks with so many keys and equal clocks; `found` has the rows of each server."""
    height = _LEGEND + -(-len(FIGURES) // _COLUMNS) * _HEIGHT
    width = _COLUMNS * _WIDTH
    what = "one key" if keys == 1 else f"{keys} keys"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>What a tick costs against the number of nodes, on {what}, clocks equal</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        *_legend(list(found)),
    ]
    lines = {number: curves(rows).get((keys, 0.0), []) for number, rows in enumerate(found.values())}
    for number, figure in enumerate(FIGURES):
        x, y = number % _COLUMNS * _WIDTH, _LEGEND + number // _COLUMNS * _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">')
        parts += _panel(figure, lines)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(servers: Sequence[str]) -> list[str]:
    parts, x = [], 12
    for number, server in enumerate(servers):
        parts.append(f'<line class="key line{number}" x1="{x}" x2="{x + 14}" y1="16" y2="16"/>')
        parts.append(_text(x + 18, 20, server))
        x += _KEY
    return parts


def _panel(figure: Figure, lines: Mapping[int, Sequence[Row]]) -> list[str]:
    points = {name: [(row.case.runs, figure.read(row)) for row in rows] for name, rows in lines.items()}
    values = [y for line in points.values() for _, y in line if y > 0]
    parts = [_text(_LEFT, 18, figure.caption)]
    if not values:
        return [*parts, _text(_LEFT + 8, _HEIGHT / 2, "none", small=True)]
    runs = [x for line in points.values() for x, _ in line]
    across = _Axis(min(runs), max(runs), _LEFT, _WIDTH - _RIGHT)
    up = _Axis(min(values), max(values), _HEIGHT - _BOTTOM, _TOP)
    for value in across.decades():
        x = across.place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(_text(x, _HEIGHT - _BOTTOM + 14, f"{value:,.0f}", small=True, anchor="middle"))
    for value in up.decades():
        y = up.place(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 5, y + 4, f"{value:g}", small=True, anchor="end"))
    for number, line in points.items():
        places = [f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in line if y > 0]
        parts.append(f'<polyline class="line{number}" points="{" ".join(places)}"/>')
        # A curve of one point would not be seen.
        parts += [f'<circle class="key line{number}" cx="{x}" cy="{y}" r="2"/>' for x, y in _pairs(places)]
    return parts


def _pairs(places: Sequence[str]) -> list[list[str]]:
    return [place.split(",") for place in places]


class _Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low = math.floor(math.log10(low) + 1e-9)
        self._high = max(self._low + 1, math.ceil(math.log10(high) - 1e-9))
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def _text(x: float, y: float, text: str, *, small: bool = False, anchor: str = "start") -> str:
    kind = ' class="small"' if small else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
