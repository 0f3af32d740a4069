"""The plot of docs/reliability.md: how late each takeover came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..occupancy import LATE
from ..picture import words
from .report import ALLOWED, delays, in_order, name_of, quantile

_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 16, 46, 34
_WIDTH, _ROW = 800, 30
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 11px; fill: #59636e; }
  .page { fill: #ffffff; } .grid { stroke: #d1d9e0; }
  .takeover { fill: #2f6fb3; fill-opacity: .45; } .own { fill: #b08800; fill-opacity: .14; }
  .limit { stroke: #c8381f; stroke-width: 1.5; } .ttl { stroke: #59636e; stroke-dasharray: 4 3; }
  .quantile { stroke: #1f2328; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .small { fill: #9198a1; } .page { fill: #0d1117; } .grid { stroke: #3d444d; }
    .takeover { fill: #6fa8e0; } .own { fill: #e3b341; } .limit { stroke: #ff8166; } .ttl { stroke: #9198a1; }
    .quantile { stroke: #f0f6fc; }
  }
"""


def svg(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the plot: a row for each backend, a dot for each takeover."""
    ttl = max((summary["ttl"] for summary in summaries), default=1)
    latest = max((seconds for summary in summaries for seconds in delays(summary)), default=ttl + ALLOWED)
    most = math.ceil(max(latest, ttl + max(LATE.values())))
    height = _TOP + len(summaries) * _ROW + _BOTTOM

    def place(seconds: float) -> float:
        return _LEFT + seconds * (_WIDTH - _LEFT - _RIGHT) / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>Seconds from a machine's death to the takeover, by backend</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        words(12, 18, "Seconds from a machine's death to the start of the job on another"),
    ]
    for second in range(most + 1):
        parts.append(_line("grid", place(second), _TOP - 4, height - _BOTTOM))
        parts.append(words(place(second), height - _BOTTOM + 16, str(second), kind="small", anchor="middle"))
    for number, summary in enumerate(in_order(summaries)):
        parts += _row(summary, _TOP + number * _ROW, place)
    for kind, seconds, text in (("ttl", ttl, "ttl"), ("limit", ttl + ALLOWED, f"ttl + {ALLOWED:g} s")):
        parts.append(_line(kind, place(seconds), _TOP - 6, height - _BOTTOM))
        parts.append(words(place(seconds), _TOP - 10, text, kind="small", anchor="middle"))
    legend = "bars: p50 and p99; shaded: how late the engine itself may end a lease after its ttl"
    parts.append(words(_WIDTH - _RIGHT, 18, legend, kind="small", anchor="end"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(summary: Mapping[str, Any], top: float, place: Any) -> list[str]:
    found, own, middle = delays(summary), LATE.get(summary["backend"], 0.0), top + _ROW / 2
    parts = [words(_LEFT - 8, middle + 4, name_of(summary), anchor="end")]
    if own:
        left, right = place(summary["ttl"]), place(summary["ttl"] + own)
        parts.append(f'<rect class="own" x="{left:.1f}" y="{top + 2}" width="{right - left:.1f}" height="{_ROW - 4}"/>')
    # Dots that would hide each other lie on different lines.
    parts += [
        f'<circle class="takeover" cx="{place(seconds):.1f}" cy="{middle + (number % 5 - 2) * 4:.1f}" r="3"/>'
        for number, seconds in enumerate(found)
    ]
    parts += [
        _line("quantile", place(quantile(found, share)), top + 3, top + _ROW - 3) for share in (0.5, 0.99) if found
    ]
    return parts


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
