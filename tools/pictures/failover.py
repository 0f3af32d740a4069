"""docs/tick.svg: one tick on three machines, a death and a takeover, as the program's own code has it.

The explorer runs cronlock's asking, standby, renewal and rules on a simulated server and clock. So the picture shows
what they do, to the second, and is the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cronlock.lease.state import decode
from explorer import actors, search
from explorer.monitor import Monitor
from explorer.world import Actor, World

TTL, HOLD = 60.0, 45.0
#: When web-1 dies, after two renewals; when web-2 and web-3 fire, whose clocks are behind; how long the job takes.
_DIES, _SECOND, _THIRD, _TAKES = 56.0, 0.4, 6.0, 39.0
_MACHINES = ("web-1", "web-2", "web-3")
_LINE = re.compile(r" *(?P<at>[0-9.]+)  (?P<who>web-\d)(?:'s)? (?P<what>.*)")

_LEFT, _RIGHT, _WIDTH, _TOP, _ROW, _BAR = 152, 128, 880, 62, 64, 34
_STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
  .name { font-weight: 600; font-size: 15px }
  .small { font-size: 12.5px; fill: #57606a }
  .on { fill: #ffffff; font-weight: 600 }
  .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px }
  .rail { stroke: #d8dee4; stroke-width: 2 } .time { stroke: #8c959f; stroke-dasharray: 3 4 }
  .run { fill: #1a7f37 } .lease { fill: #0969da } .look { fill: #bf8700 }
  .wait { fill: #fff8c5; stroke: #bf8700; stroke-width: 1.5; stroke-dasharray: 5 3 }
  .lapsing { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.5; stroke-dasharray: 4 3 }
  .dead { stroke: #cf222e; stroke-width: 4; stroke-linecap: round } .deadtext { fill: #cf222e; font-weight: 600 }
  .good { fill: #1a7f37; font-weight: 600 } .renew { stroke: #1a7f37; stroke-width: 1.5 } .tip { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b22; stroke: #3d444d }
    text { fill: #e6edf3 } .small { fill: #9da7b3 } .on { fill: #ffffff }
    .rail { stroke: #30363d } .time { stroke: #7d8590 }
    .run { fill: #238636 } .lease { fill: #1f6feb } .look { fill: #d29922 }
    .wait { fill: #3a2d0a; stroke: #d29922 } .lapsing { fill: #0c2d6b; stroke: #58a6ff }
    .dead { stroke: #f85149 } .deadtext { fill: #ff7b72 }
    .good { fill: #56d364 } .renew { stroke: #56d364 } .tip { fill: #56d364 }
  }
"""


class Event(NamedTuple):
    """An event on a machine, in seconds after the tick."""

    at: float
    who: str
    what: str


class Tick(NamedTuple):
    """What happened."""

    events: list[Event]
    #: Of each write: when, by whom, whether a lease is on behind it, and its fence.
    writes: list[tuple[float, str, bool, int]]

    def first(self, who: str, what: str) -> Event:
        """Return the machine's first event that begins with these words."""
        return next(event for event in self.events if event.who == who and event.what.startswith(what))

    def all(self, who: str, what: str) -> list[float]:
        """Return the times of that event."""
        return [event.at for event in self.events if event.who == who and event.what == what]


class _PowerCut(World):
    """A world in which one actor dies at a given time."""

    victim: Actor

    def _wake(self) -> None:
        if self.clock.now() >= 1000 + _DIES and not self.victim.gone:
            self.tell(f"{self.victim.name} dies")
            self.victim.kill()
        super()._wake()

    def _next_moment(self) -> float | None:
        moment = super()._next_moment()
        return moment if self.victim.gone or moment is None else min(moment, 1000 + _DIES)


def happen() -> Tick:
    """Let it happen; everything is carried out at once."""
    with search.prepared():
        world = _PowerCut(lambda _options: 0, faults=0)
        monitor = Monitor(world)
        run: Callable[..., actors.Script] = actors.run
        options = {"ttl": TTL, "min_hold": HOLD, "standby": 3600.0}
        world.victim = world.add("web-1", run(monitor, lasts=3600.0, **options))
        world.add("web-2", run(monitor, lasts=_TAKES, **options), starts_at=_SECOND)
        world.add("web-3", run(monitor, lasts=_TAKES, **options), starts_at=_THIRD)
        world.run()
        monitor.finish()
    found = [_LINE.fullmatch(line) for line in world.story]
    events = [Event(float(line["at"]), line["who"], line["what"]) for line in found if line]
    writes = []
    for at, (who, data) in zip(world.written_at, world.writes):
        state = decode(data)
        writes.append((at - 1000, who, state.run is not None, state.fence))
    return Tick(events, writes)


def svg() -> str:
    """Return the picture."""
    return _Picture(happen()).draw()


class _Picture:
    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._granted = tick.first("web-1", "starts").at
        self._taken = tick.first("web-2", "starts").at
        self._done = tick.first("web-2", "command is over").at
        self._left = tick.first("web-3", "skips").at
        renewed = [at for at, who, leased, _ in tick.writes if who == "web-1" and leased]
        self._lapses = max(renewed) + TTL
        self._unit = (_WIDTH - _LEFT - _RIGHT) / self._left
        self._height = _TOP + 4 * _ROW + 62

    def draw(self) -> str:
        """Return the picture as text."""
        what = (
            f"At 03:00 cron fires on three machines. web-1 gets the lease, with a ttl of {TTL:g} s, and renews it while"
            f" the job runs; web-2 and web-3 stand by. web-1 dies. Its lease lapses {TTL:g} s after the last renewal;"
            " then web-2 takes over and ends the job, and web-3 exits as a skip."
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self._height}" role="img"'
            ' aria-labelledby="title text">',
            '<title id="title">One tick on three machines, a death and a takeover</title>',
            f'<desc id="text">{what}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x="1" y="1" width="{_WIDTH - 2}" height="{self._height - 2}" rx="10"/>',
            *self._times(),
            *self._machines(),
            *self._lease(),
            *self._end(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _x(self, at: float) -> float:
        return _LEFT + at * self._unit

    @staticmethod
    def _y(row: int) -> float:
        return _TOP + row * _ROW + (34 if row == 3 else 20)

    def _times(self) -> list[str]:
        moments = [
            (0.0, "03:00:00", "cron fires on all", ""),
            (_DIES, "web-1 dies", f"after {_DIES:g} s", "deadtext"),
            (self._lapses, "the lease lapses", f"{TTL:g} s after the last renewal", ""),
            (self._done, "the job is done", f"after {_span(self._done)}", "good"),
        ]
        parts = []
        for at, name, more, kind in moments:
            x = self._x(at)
            parts.append(f'<path class="time" d="M{x:.1f} 58V{self._y(3) + _BAR + 8:g}"/>')
            parts.append(_text(x, 30, name, f"name {kind}", "middle"))
            parts.append(_text(x, 48, more, "small", "middle"))
        return parts

    def _machines(self) -> list[str]:
        parts = []
        ends = (_DIES, self._done, self._left)
        for row, (name, end) in enumerate(zip(_MACHINES, ends)):
            y = self._y(row)
            last = self._x(self._left) if row == 0 else self._x(end)
            parts.append(f'<path class="rail" d="M120 {y + _BAR / 2:g}H{last:.1f}"/>')
            parts.append(_text(24, y + 22, name, "name"))
        y = self._y(0)
        parts += [self._bar("run", self._granted, _DIES, 0), _text(self._x(0) + 12, y + 22, "runs the job", "on")]
        x = self._x(_DIES)
        parts.append(f'<path class="dead" d="M{x - 10:.1f} {y + 6:g}l20 22M{x + 10:.1f} {y + 6:g}l-20 22"/>')
        begun = self._tick.first("web-2", "reads").at, self._tick.first("web-3", "reads").at
        parts += [self._bar("wait", begun[0], self._taken, 1), self._bar("run", self._taken, self._done, 1)]
        parts += [self._bar("wait", begun[1], self._left, 2)]
        option = '<tspan class="mono">--standby 1h</tspan>'
        parts.append(_text(self._x(begun[0]) + 12, self._y(1) + 20, f"stands by: {option}", ""))
        parts.append(_text(self._x(begun[1]) + 12, self._y(2) + 20, "stands by; its clock is 6 s behind", ""))
        parts.append(_text(self._x(self._taken) + 10, self._y(1) + 22, "takes over, runs", "on"))
        for row, name, begin, end in ((1, "web-2", begun[0], self._taken), (2, "web-3", begun[1], self._left)):
            looks = [self._x(at) for at in self._tick.all(name, "reads") if begin < at < end]
            parts += [f'<circle class="look" cx="{x:.1f}" cy="{self._y(row) + 28:g}" r="2.2"/>' for x in looks]
        parts.append(_text(self._x(self._done) + 10, self._y(1) + 22, "status 0", "good"))
        parts.append(_text(self._x(self._left) + 10, self._y(2) + 22, "skip: status 0", ""))
        return parts

    def _lease(self) -> list[str]:
        y = self._y(3)
        fences = {who: fence for _, who, leased, fence in self._tick.writes if leased}
        parts = [f'<path class="rail" d="M120 {y + _BAR / 2:g}H{self._x(self._left):.1f}"/>']
        parts += [_text(24, y + 14, "lease on", "name"), _text(24, y + 32, "billing", "name")]
        parts += [self._bar("lapsing", _DIES, self._lapses, 3), self._bar("lease", self._granted, _DIES, 3)]
        parts.append(self._bar("lease", self._taken, self._done, 3))
        parts.append(_text(self._x(0) + 12, y + 22, f"web-1, fence {fences['web-1']}", "on"))
        parts.append(_text(self._x(_DIES) + 12, y + 22, "nobody renews it", ""))
        parts.append(_text(self._x(self._taken) + 10, y + 22, f"web-2, fence {fences['web-2']}", "on"))
        named = set[str]()
        for at, who, leased, _ in self._tick.writes:
            x, what = self._x(at) + 4, "renew" if who in named else "acquire"
            what = what if leased else "release"
            parts.append(f'<path class="renew" d="M{x:.1f} {y - 32:g}v22"/>')
            parts.append(f'<path class="tip" d="M{x - 4:.1f} {y - 12:g}h8l-4 8z"/>')
            parts.append(_text(x + 7, y - 18, what, "small"))
            named.add(who)
        return parts

    def _end(self) -> list[str]:
        text = (
            "Dots: the standbys look. If web-1 were only cut off or paused, its guard would end the job before"
            " the lease lapses."
        )
        return [_text(24, self._height - 18, text, "small")]

    def _bar(self, kind: str, begin: float, end: float, row: int) -> str:
        x, width = self._x(begin), (end - begin) * self._unit
        return f'<rect class="{kind}" x="{x:.1f}" y="{self._y(row):g}" width="{width:.1f}" height="{_BAR}" rx="5"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    attributes = f' class="{kind.strip()}"' if kind.strip() else ""
    attributes += "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:g}"{attributes}>{text}</text>'


def _span(seconds: float) -> str:
    return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
