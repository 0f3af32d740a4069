"""docs/demo.svg and docs/status.svg: what a terminal shows.

What the demo prints is asked of it each time, on the file backend. What `cronlock status` prints stands in README.md,
which tests/docs hold to the program's output on three machines with a Redis.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_DEMO = "make demo"
_STATUS = "$ sudo cronlock status"
_LETTER, _LINE, _EDGE, _HEAD = 7.83, 20, 18, 34
#: Highlighted text, by class of style. The first pattern that matches counts.
_COLOURS = (
    ("prompt", re.compile(r"^\S*\$ ")),
    ("bad", re.compile(r"\b(?:lapsed|failed|died)\b")),
    ("good", re.compile(r"\b(?:running|ok|I have the lease)\b")),
    ("soft", re.compile(r"^cronlock: .*|^[A-Z]+ +[A-Z].*")),
)
_STYLE = """
  .screen { fill: #f6f8fa; stroke: #d0d7de } .head { fill: #eaeef2 } .dot { fill: #c4ccd4 }
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
  .prompt { fill: #0969da; font-weight: 600 } .good { fill: #1a7f37 } .bad { fill: #cf222e } .soft { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    .screen { fill: #0d1117; stroke: #3d444d } .head { fill: #21262d } .dot { fill: #484f58 }
    text { fill: #e6edf3 }
    .prompt { fill: #58a6ff } .good { fill: #56d364 } .bad { fill: #ff7b72 } .soft { fill: #9da7b3 }
  }
"""


def demo() -> str:
    """Run the demo, and return its session: the winner first; hosts, times and numbers are always the same."""
    shown = _typed(["sh", str(ROOT / "tools/demo.sh"), sys.executable])
    first, *racers, last = shown.splitlines()
    racers.sort(key=lambda line: line.startswith("cronlock: "))
    text = "\n".join([f"$ {_DEMO}", first, *racers, last])
    for pattern, usual in (
        (r"racer \w+", "racer one"),
        (r"(?<=fence )\d+", "1795453200123456"),
        (r"held by \S+ \(pid \d+\) since \S+", "held by web-1 (pid 4242) since 17:00:00"),
    ):
        text = re.sub(pattern, usual, text)
    return text


def _typed(command: list[str]) -> str:
    """Return the output of a command at a terminal."""
    ours, its = os.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its) as running:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux reports the closed other side so.
                break
            shown += piece
        os.close(ours)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)}: status {running.returncode}\n{shown.decode()}")
    return shown.decode().replace("\r\n", "\n").strip()


def status() -> str:
    """Return the session with `cronlock status` of README.md."""
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(str(block) for block in blocks if block.startswith(_STATUS)).strip()


def svg(title: str, session: str) -> str:
    """Return a picture of a session."""
    lines = session.splitlines()
    width = round(2 * _EDGE + _LETTER * max(map(len, lines)))
    height = _HEAD + _LINE * len(lines) + _EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title text">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="text">{escape(session)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="screen" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        f'<path class="head" d="M1 24V8a7 7 0 0 1 7-7H{width - 8}a7 7 0 0 1 7 7V24z"/>',
        *(f'<circle class="dot" cx="{18 + 16 * place}" cy="12.5" r="4.5"/>' for place in range(3)),
    ]
    for number, line in enumerate(lines):
        parts += _line(line, _HEAD + _LINE * (number + 0.6))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(line: str, y: float) -> list[str]:
    """Return the pieces of a line, each at its column, whatever font the reader has."""
    kinds: list[str] = [""] * len(line)
    for kind, pattern in reversed(_COLOURS):
        for found in pattern.finditer(line):
            kinds[found.start() : found.end()] = [kind] * len(found[0])
    parts = []
    for word in re.finditer(r"\S+", line):
        begin = word.start()
        while begin < word.end():
            end = begin
            while end < word.end() and kinds[end] == kinds[begin]:
                end += 1
            attribute = f' class="{kinds[begin]}"' if kinds[begin] else ""
            size = f'x="{_EDGE + _LETTER * begin:.1f}" textLength="{_LETTER * (end - begin):.1f}"'
            parts.append(f'<text {size} y="{y:g}"{attribute}>{escape(line[begin:end])}</text>')
            begin = end
    return parts
