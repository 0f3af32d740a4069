"""A picture of a history: nodes as rows, runs as bars coloured by how they ended, faults as shaded spans.

    python -m chaos.timeline HISTORY PICTURE.svg [BEGIN END [TITLE]]

BEGIN and END, in seconds from the start of the history, cut a part out of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from . import check, findings
from .history import BOTH, COMMAND, GUARD, WRAPPER, Attempt, Fault, read
from .occupancy import FaultIndex, alive_until, held_until
from .picture import LETTER, STYLE, bar, legend, words
from .words import FAULTS

_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 24, 44, 34
_NARROW, _WIDE = 960, 6000
_PIXELS_A_SECOND = 14
_LANE, _BAR, _HEAD, _FOOT, _LINE = 20, 13, 17, 6, 14
#: Seconds that keys of one lane keep between them.
_APART = 3.0
#: Seconds of asking that are not worth a line.
_BRIEF = 0.5

_ENDS = {
    "done": "ended by itself",
    "failed": "ended with a status not 0",
    "lost": "stopped in time: lease lost",
    "killed": "killed, or its wrapper was",
    "alive": "not ended yet",
}


def svg(verdict: check.Verdict, begin: float | None = None, end: float | None = None, title: str = "") -> str:
    """Return the picture; `begin` and `end` in seconds from the start of the history."""
    return _Picture(verdict, begin, end, title).draw()


class _Picture:
    """Everything that has a place in it."""

    def __init__(self, verdict: check.Verdict, begin: float | None, end: float | None, title: str) -> None:
        history = verdict.history
        self._history = history
        self._found = [finding for finding in verdict.findings if finding.kind == findings.OVERLAP]
        self._around = FaultIndex(history)
        self._zero = history.begin
        self._begin = history.begin + (begin or 0.0)
        self._end = history.end if end is None else history.begin + end
        seconds = max(self._end - self._begin, 0.1)
        self._width = int(min(max(_NARROW, seconds * _PIXELS_A_SECOND), _WIDE)) if end is None else _NARROW
        self._unit = (self._width - _LEFT - _RIGHT) / seconds
        self._attempts = [
            attempt
            for attempt in sorted(history.attempts.values(), key=lambda attempt: attempt.at)
            if attempt.at <= self._end and self._last(attempt) >= self._begin
        ]
        self._nodes = list(history.plan.get("nodes") or sorted({attempt.node for attempt in self._attempts}))
        self._lanes, self._names = _lanes(self._attempts)
        self._faults = [fault for fault in self._around.during(self._begin, self._end) if fault.begin <= self._end]
        self._labels = self._place_labels([fault for fault in self._faults if not _is_local(fault)])
        lines = 1 + max((line for _, line in self._labels.values()), default=-1)
        self._top = _TOP + lines * _LINE
        self._row = _HEAD + len(self._names) * _LANE + _FOOT
        self._bottom = self._top + len(self._nodes) * self._row
        self._title = title or check.show(verdict).splitlines()[0]

    def draw(self) -> str:
        """Return it as text."""
        samples, below = legend(self._legend(), _LEFT, self._width)
        height = self._bottom + _BOTTOM + below
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width} {height}" '
            f'width="{self._width}" height="{height}" role="img">',
            f"<title>{escape(self._title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{self._width}" height="{height}"/>',
            words(_LEFT, 22, self._title, kind="title"),
            *self._bands(),
            *self._grid(),
        ]
        for fault in self._faults:
            parts += self._shade(fault)
        # Who only asked lies below those who ran.
        for attempt in sorted(self._attempts, key=lambda attempt: attempt.life is not None):
            parts += self._attempt(attempt)
        for finding in self._found:
            parts += self._overlap(finding)
        for fault in self._faults:
            parts += self._hit(fault)
        parts += [f'<g transform="translate(0 {self._bottom + 38})">', *samples, "</g>"]
        return "\n".join([*parts, "</svg>"]) + "\n"

    # Places.

    def _x(self, moment: float) -> float:
        return _LEFT + (min(max(moment, self._begin), self._end) - self._begin) * self._unit

    def _head(self, node: str) -> float:
        return self._top + self._nodes.index(node) * self._row

    def _lane(self, attempt: Attempt) -> float:
        return self._head(attempt.node) + _HEAD + self._lanes[attempt.key] * _LANE

    def _shows(self, moment: float) -> bool:
        return self._begin <= moment <= self._end

    def _last(self, attempt: Attempt) -> float:
        return self._history.end if attempt.ended is None else max(attempt.ended, attempt.at)

    def _next_start(self, attempt: Attempt) -> float:
        """Return when the key was in use again at the latest: whatever was reckoned, it was free then."""
        after = attempt.life.start if attempt.life else attempt.at
        starts = (other.life.start for other in self._attempts if other.life and other.key == attempt.key)
        return min((start for start in starts if start > after), default=self._history.end)

    def _asked_until(self, attempt: Attempt) -> float:
        return self._last(attempt) if attempt.life is None else attempt.life.start

    # Parts.

    def _bands(self) -> Iterator[str]:
        inner = self._width - _LEFT - _RIGHT
        for number, node in enumerate(self._nodes):
            top = self._head(node)
            if number % 2 == 0:
                yield bar("band", _LEFT, top, inner, self._row)
            middle = top + _HEAD + len(self._names) * _LANE / 2
            if len(self._names) == 1:
                yield words(_LEFT - 10, middle + 2, node, anchor="end")
                continue
            yield words(14, middle + 2, node)
            for index, key in enumerate(self._names):
                yield words(_LEFT - 8, top + _HEAD + index * _LANE + 11, key, kind="small", anchor="end")

    def _grid(self) -> Iterator[str]:
        step = next(step for step in (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if step * self._unit > 55)
        number = int((self._begin - self._zero) / step)
        while (moment := self._zero + number * step) <= self._end:
            if moment >= self._begin:
                x = self._x(moment)
                yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self._top}" y2="{self._bottom}"/>'
                yield words(x, self._bottom + 15, f"{number * step:g} s", kind="small", anchor="middle")
            number += 1

    def _shade(self, fault: Fault) -> Iterator[str]:
        left, right = self._span(fault)
        told = f"<title>{escape(_describe(fault))}</title>"
        if _is_local(fault):
            if fault.run is None:
                for number, node in enumerate(node for node in fault.nodes if node in self._nodes):
                    top = self._head(node)
                    yield bar("node", left, top, right - left, self._row, told)
                    if number == 0:
                        yield words(left + 3, top + 12, _describe(fault), kind="small")
            return
        yield bar("server", left, self._top, right - left, self._bottom - self._top, told)
        if fault.fault in self._labels:
            x, line = self._labels[fault.fault]
            yield words(x, _TOP + 10 + line * _LINE, _describe(fault), kind="small")

    def _span(self, fault: Fault) -> tuple[float, float]:
        left = self._x(fault.begin)
        return left, max(left + 1.5, self._x(self._end if fault.end is None else fault.end))

    def _attempt(self, attempt: Attempt) -> Iterator[str]:
        if attempt.node not in self._nodes:
            return
        top, middle = self._lane(attempt), self._lane(attempt) + _BAR / 2
        told = f"<title>{escape(_tell(attempt, self._zero))}</title>"
        if self._asked_until(attempt) - attempt.at > _BRIEF:
            yield self._line("wait", attempt.at, self._asked_until(attempt), middle)
        if attempt.life is None:
            if self._shows(attempt.at):
                yield _mark(attempt, self._x(attempt.at), middle, told)
            return
        start, last = attempt.life.start, alive_until(attempt, self._around)
        if last >= self._begin and start <= self._end:
            left = self._x(start)
            yield bar(_ending(attempt), left, top, max(1.5, self._x(last) - left), _BAR, told)
        kept = min(held_until(attempt, self._around), self._next_start(attempt))
        if kept > last and kept > self._begin and last < self._end:
            left = self._x(last)
            yield bar("kept", left, top + 2.5, self._x(kept) - left, _BAR - 5)

    def _line(self, kind: str, begin: float, end: float, y: float) -> str:
        return f'<line class="{kind}" x1="{self._x(begin):.1f}" x2="{self._x(end):.1f}" y1="{y}" y2="{y}"/>'

    def _overlap(self, finding: findings.Finding) -> Iterator[str]:
        begin, end = finding.end, finding.end + (finding.length or 0.0)
        if end < self._begin or begin > self._end:
            return
        left = self._x(begin)
        told = f"<title>{escape(finding.text)}</title>"
        for run in finding.runs:
            attempt = self._history.attempts[run]
            if attempt.node in self._nodes:
                kind = "apart" if finding.apart else "overlap"
                yield bar(kind, left, self._lane(attempt) - 2, max(2.5, self._x(end) - left), _BAR + 4, told)

    def _hit(self, fault: Fault) -> Iterator[str]:
        """Yield the cross of a process that was hit, and its name."""
        attempt = None if fault.run is None else self._history.attempts.get(fault.run)
        if attempt is None or attempt.node not in self._nodes or not self._shows(fault.begin):
            return
        x, top = self._x(fault.begin), self._lane(attempt)
        told = f"<title>{escape(_describe(fault))}</title>"
        yield f'<path class="hit" d="M{x - 4:.1f} {top + 2}l8 8m0 -8l-8 8">{told}</path>'
        if len(self._names) == 1:
            yield words(x + 3, self._head(attempt.node) + 12, fault.name, kind="small")
        if fault.end is not None and fault.end - fault.begin > 0.1:
            left, right = self._span(fault)
            yield bar("node", left, top - 2, right - left, _BAR + 4)

    def _place_labels(self, faults: Sequence[Fault]) -> dict[str, tuple[float, int]]:
        """Return (x, line) of the names of faults, as long as they find room in three lines."""
        placed: dict[str, tuple[float, int]] = {}
        free = [0.0, 0.0, 0.0]
        for fault in faults:
            width = len(_describe(fault)) * LETTER
            x = min(self._x(fault.begin), self._width - 6 - width)
            for line, until in enumerate(free):
                if until <= x:
                    placed[fault.fault] = (x, line)
                    free[line] = x + width + 10
                    break
        return placed

    def _legend(self) -> list[tuple[str, str]]:
        used = {_ending(attempt) for attempt in self._attempts if attempt.life}
        items: list[tuple[str, str]] = [(kind, text) for kind, text in _ENDS.items() if kind in used]
        items.append(("kept", "key may still be held (lease, hold)"))
        if any(attempt.life is None for attempt in self._attempts):
            items += [("skip", "skipped"), ("refused", "no answer, nothing run")]
        if any(self._asked_until(attempt) - attempt.at > _BRIEF for attempt in self._attempts):
            items.append(("wait", "asking, waiting, standing by"))
        if any(fault.run for fault in self._faults):
            items.append(("hit", "process hit"))
        items.append(("server", "fault"))
        kinds = {"apart" if finding.apart else "overlap" for finding in self._found}
        items += [("overlap", "OVERLAP")] if "overlap" in kinds else []
        items += [("apart", "overlap, not promised away")] if "apart" in kinds else []
        if not kinds:
            items.append(("overlap", "overlap (none)"))
        return items


def _is_local(fault: Fault) -> bool:
    """Return True if a fault belongs to rows, rather than to all of them."""
    return bool(fault.nodes) or fault.run is not None or fault.process in (WRAPPER, GUARD, BOTH, COMMAND)


def _lanes(attempts: Sequence[Attempt]) -> tuple[dict[str, int], list[str]]:
    """Return which lane each key has, and the lanes' names: keys that come after each other share one."""
    spans: dict[str, tuple[float, float]] = {}
    for attempt in attempts:
        begin, end = spans.get(attempt.key, (attempt.at, attempt.at))
        spans[attempt.key] = min(begin, attempt.at), max(end, attempt.at + _APART, attempt.ended or 0.0)
    lanes: dict[str, int] = {}
    names: list[str] = []
    free: list[float] = []
    for key, (begin, end) in sorted(spans.items(), key=lambda item: (item[1], item[0])):
        lane = next((lane for lane, busy in enumerate(free) if busy <= begin), len(free))
        if lane == len(free):
            free.append(end)
            names.append(key)
        else:
            free[lane] = end
            names[lane] = names[lane].removesuffix(" ...") + " ..."
        lanes[key] = lane
    return lanes, names or [""]


def _describe(fault: Fault) -> str:
    name = FAULTS.get(fault.name, fault.name)
    return name if fault.target in name else f"{name}: {fault.target}"


def _ending(attempt: Attempt) -> str:
    life = attempt.life
    if attempt.status == 75:
        return "lost"
    if life is not None and life.end is not None and life.why == "done":
        return "done" if life.end_status == 0 else "failed"
    return "alive" if attempt.ended is None else "killed"


def _tell(attempt: Attempt, zero: float) -> str:
    life = attempt.life
    fence = "" if life is None else f", fence {life.fence}"
    status = "not ended" if attempt.ended is None else f"status {attempt.status} at {attempt.ended - zero:.3f} s"
    tick = "" if attempt.tick is None else f", tick {attempt.tick}"
    return f"{attempt.run}: {attempt.key}{tick} on {attempt.node} at {attempt.at - zero:.3f} s{fence}; {status}"


def _mark(attempt: Attempt, x: float, y: float, told: str) -> str:
    if attempt.status == attempt.skip_status:
        return f'<circle class="skip" cx="{x:.1f}" cy="{y}" r="2.6">{told}</circle>'
    return f'<path class="refused" d="M{x - 3:.1f} {y - 3}l6 6m0 -6l-6 6">{told}</path>'


def main(arguments: Sequence[str]) -> int:
    """Write the picture of a history."""
    source, target, *more = arguments
    begin, end = (float(word) for word in more[:2]) if more else (None, None)
    Path(target).write_text(svg(check.check(read(Path(source))), begin, end, *more[2:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
