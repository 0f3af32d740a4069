"""The parts of a picture: its style, bars, texts, and the samples of its legend."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

#: Of one letter, and of a line of the legend.
LETTER, LEGEND_LINE = 5.9, 18

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 11px; fill: #59636e; } .title { font-size: 14px; }
  .page { fill: #ffffff; } .band { fill: #f6f8fa; } .grid { stroke: #d1d9e0; }
  .done { fill: #2f6fb3; } .failed { fill: #3c9a8f; } .lost { fill: #d4841c; }
  .killed { fill: #7d5bb0; } .alive { fill: #8c959f; }
  .kept { fill: none; stroke: #8c959f; stroke-dasharray: 2 2; }
  .wait { stroke: #59636e; stroke-width: 1.5; }
  .skip { fill: none; stroke: #59636e; stroke-width: 1.2; } .refused { stroke: #59636e; stroke-width: 1.4; }
  .server { fill: #b08800; fill-opacity: .20; } .node { fill: #b08800; fill-opacity: .28; }
  .hit { fill: none; stroke: #1f2328; stroke-width: 2; }
  .overlap { fill: #cf222e; } .apart { fill: #cf222e; fill-opacity: .45; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .small { fill: #9198a1; }
    .page { fill: #0d1117; } .band { fill: #151b23; } .grid { stroke: #3d444d; }
    .done { fill: #4c8fd6; } .failed { fill: #4fb3a7; } .lost { fill: #e3a04f; }
    .killed { fill: #a487d6; } .alive { fill: #6e7681; }
    .kept { stroke: #6e7681; } .wait, .skip, .refused { stroke: #9198a1; } .hit { stroke: #f0f6fc; }
    .server { fill: #e3b341; fill-opacity: .22; } .node { fill: #e3b341; fill-opacity: .30; }
    .overlap { fill: #ff4d4d; } .apart { fill: #ff4d4d; }
  }
"""


def legend(items: list[tuple[str, str]], left: float, width: float) -> tuple[list[str], float]:
    """Return samples with their texts, in as many lines as they need below 0, and how high these are."""
    parts: list[str] = []
    x, y = left, 0.0
    for kind, text in items:
        size = 28 + len(text) * LETTER
        if x + size > width - 4 and x > left:
            x, y = left, y + LEGEND_LINE
        parts += [*_sample(kind, x, y), words(x + 20, y + 4, text, kind="small")]
        x += size
    return parts, y + LEGEND_LINE


def _sample(kind: str, x: float, y: float) -> Iterator[str]:
    if kind == "skip":
        yield f'<circle class="skip" cx="{x + 8}" cy="{y}" r="2.6"/>'
    elif kind == "refused":
        yield f'<path class="refused" d="M{x + 5} {y - 3}l6 6m0 -6l-6 6"/>'
    elif kind == "hit":
        yield f'<path class="hit" d="M{x + 4} {y - 4}l8 8m0 -8l-8 8"/>'
    elif kind == "wait":
        yield f'<line class="wait" x1="{x}" x2="{x + 16}" y1="{y}" y2="{y}"/>'
    elif kind == "kept":
        yield bar("kept", x, y - 3.5, 16, 7)
    else:
        yield bar(kind, x, y - 6, 16, 12)


def bar(kind: str, x: float, y: float, width: float, height: float, inner: str = "") -> str:
    """Return a rectangle, with `inner` in it."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}>{inner}</rect>' if inner else f'<rect class="{kind}" {place}/>'


def words(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
