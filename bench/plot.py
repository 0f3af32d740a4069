"""The plot of docs/performance.md: bars, their quartiles, and a tick at each limit of packages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from . import cases
from .measure import Spread
from .report import Report

_LEFT, _RIGHT, _WIDTH = 300, 70, 800
_TOP, _BAR, _GAP, _BOTTOM = 58, 13, 11, 34

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 11px; fill: #59636e; }
  .page { fill: #ffffff; }
  .grid { stroke: #d1d9e0; }
  .bar0 { fill: #2f6fb3; } .bar1 { fill: #86b4df; }
  .spread { stroke: #1f2328; stroke-width: 1.2; }
  .limit { stroke: #c8381f; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .small { fill: #9198a1; } .page { fill: #0d1117; }
    .grid { stroke: #3d444d; } .bar0 { fill: #4c8fd6; } .bar1 { fill: #24527f; }
    .spread { stroke: #f0f6fc; } .limit { stroke: #ff8166; }
  }
"""


def svg(reports: Sequence[Report]) -> str:
    """Return the plot of the wall times of all interpreters."""
    names = [name for name in cases.LIMITS if any(name in report.walls for report in reports)]
    step = len(reports) * _BAR + _GAP
    height = _TOP + len(names) * step + _BOTTOM
    values = [report.walls[name].high for report in reports for name in names if name in report.walls]
    most = max(values + [limit.starts for limit in cases.LIMITS.values() if limit.starts is not None])
    unit = (_WIDTH - _LEFT - _RIGHT) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>Wall time of whole processes, in starts of the bare interpreter</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        *_legend(reports),
        *_grid(int(most), unit, height - _BOTTOM),
    ]
    for number, name in enumerate(names):
        parts += _group(name, reports, _TOP + number * step, unit)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(reports: Sequence[Report]) -> list[str]:
    parts = [_text(_LEFT, 18, "Wall time, in starts of the bare interpreter (F)")]
    x = _LEFT
    for number, report in enumerate(reports):
        parts.append(f'<rect class="bar{number}" x="{x}" y="29" width="12" height="12"/>')
        parts.append(_text(x + 17, 39, report.title, small=True))
        x += 30 + 6 * len(report.title)
    parts.append(f'<line class="limit" x1="{x + 5}" x2="{x + 5}" y1="28" y2="42"/>')
    parts.append(_text(x + 12, 39, "limit", small=True))
    parts.append(f'<line class="spread" x1="{x + 60}" x2="{x + 80}" y1="35" y2="35"/>')
    parts.append(_text(x + 86, 39, "quartiles", small=True))
    return parts


def _grid(most: int, unit: float, bottom: int) -> list[str]:
    parts = []
    for value in range(most + 1):
        x = _LEFT + value * unit
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, f"{value} F", small=True, anchor="middle"))
    return parts


def _group(name: str, reports: Sequence[Report], top: int, unit: float) -> list[str]:
    middle = top + len(reports) * _BAR / 2
    parts = [_text(_LEFT - 10, middle + 4.5, name, anchor="end")]
    for number, report in enumerate(reports):
        if name in report.walls:
            parts += _bar(report.walls[name], number, top + number * _BAR, unit)
    limit = cases.LIMITS[name].starts
    if limit is not None:
        x, bottom = _LEFT + limit * unit, top + len(reports) * _BAR + 3
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{bottom}"/>')
    return parts


def _bar(spread: Spread, number: int, top: float, unit: float) -> list[str]:
    low, end, high = (_LEFT + value * unit for value in (spread.low, spread.median, spread.high))
    middle = top + _BAR / 2 - 0.5
    return [
        f'<rect class="bar{number}" x="{_LEFT}" y="{top}" width="{end - _LEFT:.1f}" height="{_BAR - 1}"/>',
        f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        _text(_WIDTH - 8, top + 10, f"{spread.median:.2f} F", small=True, anchor="end"),
    ]


def _text(x: float, y: float, text: str, *, small: bool = False, anchor: str = "start") -> str:
    kind = ' class="small"' if small else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
