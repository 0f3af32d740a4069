"""The history of a torture run: starts, faults, and the reports of the commands.

One file of JSON lines. Everybody (the driver, each command, each of its children) appends its own
lines with a single O_APPEND write each, so that a kill loses nothing and tears nothing. Every line
has `t`, seconds of the machine's CLOCK_BOOTTIME, and `what`:

    plan      backend, seed, ttl, hold, nodes                     first, once; anything else for people
    tick      key, tick, healthy, unhealthy                       due now; names of nodes
    spawn     run, node, key, tick, pid, ttl, hold, skip_status   a cronlock process was started just before
              [standby, wait, ignore_hold, timeout, on_error, probe]
    late      run                                                 one was left out, since its time was over
    exit      run, status, stderr                                 it ended; status as subprocess has it (-9: KILL)
    fault     fault, name, target, [nodes, run, process, signal, impairs, recovery, grants, statuses]
    healed    fault                                               its end; for a kill at once
    left      run, pids, text                                     processes found alive that should not be
    start     run, key, tick, node, pid, owner, fence, takeover   the command runs
    beat      run, pid                                            it, or a child of it, is still alive
    end       run, pid, status, why                               it is about to end (why: done, or signal N)
    harness   text                                                the harness itself failed; its verdict is void

`run` names one cronlock process and all that it starts. See `Fault` for what a fault may excuse.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: In `impairs`: every node.
ALL = "*"
#: `process` of a fault.
WRAPPER, GUARD, BOTH, COMMAND, SERVER = "wrapper", "guard", "both", "command", "server"


def now() -> float:
    """Return boot time, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Writer:
    """Appends events to a history; processes may share one file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def note(self, what: str, at: float | None = None, /, **fields: object) -> None:
        """Append an event at time `at`, now by default."""
        event = {"t": round(now() if at is None else at, 6), "what": what, **fields}
        os.write(self._descriptor, (json.dumps(event, separators=(",", ":")) + "\n").encode())

    def plan(self, *, backend: str, seed: int, ttl: float, hold: float, nodes: Sequence[str], **more: object) -> None:
        """Record the next step; `more` is for people."""
        self.note("plan", backend=backend, seed=seed, ttl=ttl, hold=hold, nodes=list(nodes), **more)

    def tick(self, key: str, tick: str, healthy: Sequence[str], unhealthy: Sequence[str]) -> None:
        """Record that a tick of a key is due."""
        self.note("tick", key=key, tick=tick, healthy=list(healthy), unhealthy=list(unhealthy))

    def spawn(self, t: float, **fields: object) -> None:
        """Record a cronlock process started after time `t`; see `Attempt`. Omits None and False."""
        options = {name: value for name, value in fields.items() if name == "tick" or value not in (None, False)}
        self.note("spawn", t, **options)

    def exit(self, run: str, status: int, stderr: str) -> None:
        """Record the end of a cronlock process, with the tail of its output."""
        self.note("exit", run=run, status=status, stderr=stderr[-500:])

    def fault(self, fault: str, name: str, target: str, **more: object) -> None:
        """Record that a fault begins, or is about to; `more`: see `Fault`."""
        self.note("fault", fault=fault, name=name, target=target, **more)

    def healed(self, fault: str) -> None:
        """Record that a fault has ended."""
        self.note("healed", fault=fault)

    def left(self, run: str, pids: Sequence[int], text: str) -> None:
        """Record processes that a run should not have left alive."""
        self.note("left", run=run, pids=list(pids), text=text[-500:])


@dataclass
class Life:
    """A command's own report."""

    start: float
    pid: int
    owner: str | None
    fence: int | None
    takeover: bool
    #: The last heartbeat of any of its processes, and of the first one.
    last: float
    leader_last: float
    #: When its leader recorded its end; None if it was killed.
    end: float | None = None
    end_status: int | None = None
    why: str = ""


@dataclass
class Attempt:
    """One cronlock process."""

    run: str
    node: str
    key: str
    #: None: outside of a tick.
    tick: str | None
    #: Time before its start.
    at: float
    pid: int
    ttl: float
    hold: float
    skip_status: int
    #: Seconds of --standby, --wait, --timeout, and what --on-error says.
    standby: float = 0.0
    wait: float = 0.0
    timeout: float | None = None
    on_error: str = "fail"
    ignore_hold: bool = False
    #: True: only tests whether the key is free.
    probe: bool = False
    #: The time of its end; None if the history ends first.
    ended: float | None = None
    status: int | None = None
    stderr: str = ""
    life: Life | None = None


@dataclass
class Fault:
    """An injected fault, and what it excuses.

    A *grant* says what the backend does not promise under this fault: {"finding": "overlap", "within":
    seconds, "unless_seen": ...}. The finding is then counted apart, as long as it keeps to the bound
    `within` (of an overlap: its length; None: no bound). `unless_seen` takes the grant away
    from a node that must know better: "lease" if it had asked for the key while the lease in
    question was out, "key" if it had asked for the key at all.
    """

    fault: str
    name: str
    target: str
    begin: float
    #: None: never healed.
    end: float | None = None
    #: The nodes that it hits, for picture and statuses; empty: the servers.
    nodes: list[str] = field(default_factory=list)
    #: The run whose process was hit.
    run: str | None = None
    process: str = SERVER
    signal: int | None = None
    #: Nodes that may miss ticks while it lasts; ALL for every node.
    impairs: list[str] = field(default_factory=list)
    #: Seconds after its end for which they may miss ticks.
    recovery: float = 0.0
    grants: list[dict[str, Any]] = field(default_factory=list)
    #: Further exit statuses that it may cause.
    statuses: list[int] = field(default_factory=list)

    def until(self) -> float:
        """Return when its effects end."""
        return float("inf") if self.end is None else self.end + self.recovery

    def loses_leases(self) -> bool:
        """Return True if servers may forget leases by it, so that nodes with a watermark quarantine the key."""
        return any("unless_seen" in grant for grant in self.grants)

    def touches(self, node: str) -> bool:
        """Return True if it excuses a node."""
        return ALL in self.impairs or node in self.impairs


@dataclass
class Tick:
    """A crontab line that was due."""

    key: str
    tick: str
    at: float
    #: Nodes without a known fault at that time.
    healthy: list[str]


@dataclass
class Left:
    """Processes that survived their run."""

    run: str
    at: float
    pids: list[int]
    text: str


@dataclass
class History:
    """A history grouped by run."""

    plan: dict[str, Any] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    ticks: list[Tick] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    #: How many runs the harness was too slow to start.
    late: int = 0
    #: Failures of the harness.
    harness: list[str] = field(default_factory=list)
    #: From the first event to the last.
    begin: float = 0.0
    end: float = 0.0

    def by_key(self) -> dict[str, list[Attempt]]:
        """Return the attempts of each key in order."""
        keys: dict[str, list[Attempt]] = {}
        for attempt in sorted(self.attempts.values(), key=lambda attempt: attempt.at):
            keys.setdefault(attempt.key, []).append(attempt)
        return keys

    def starts(self) -> Iterator[Attempt]:
        """Yield the attempts whose command started, in order."""
        yield from sorted((a for a in self.attempts.values() if a.life), key=lambda a: a.life.start if a.life else 0)


def read(path: Path) -> History:
    """Return the history in a file. Raises ValueError for a line that is no event."""
    with open(path, encoding="utf-8") as file:
        return gather(_events(file))


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            float(event["t"]), str(event["what"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is no event: {line[:100]!r}") from error
        yield event


def gather(events: Iterable[dict[str, Any]]) -> History:
    """Return the history of events. Raises ValueError for one that fits nothing."""
    history = History()
    ordered = sorted(events, key=lambda event: float(event["t"]))
    # The process may write before the driver learns its pid and writes.
    ordered.sort(key=lambda event: event["what"] != "spawn")
    if ordered:
        history.begin = min(float(event["t"]) for event in ordered)
        history.end = max(float(event["t"]) for event in ordered)
    for event in ordered:
        try:
            _TAKE[event["what"]](history, dict(event))
        except (KeyError, TypeError) as error:
            raise ValueError(f"an event that fits nothing: {json.dumps(event)[:200]}") from error
    return history


def _take_plan(history: History, event: dict[str, Any]) -> None:
    history.plan = event


def _take_tick(history: History, event: dict[str, Any]) -> None:
    history.ticks.append(Tick(event["key"], event["tick"], event["t"], event["healthy"]))


def _take_spawn(history: History, event: dict[str, Any]) -> None:
    if event["run"] in history.attempts:
        raise ValueError(f"run {event['run']} is there twice")
    history.attempts[event["run"]] = Attempt(at=event.pop("t"), **_without(event))


def _take_exit(history: History, event: dict[str, Any]) -> None:
    attempt = history.attempts[event["run"]]
    attempt.ended, attempt.status, attempt.stderr = event["t"], event["status"], event["stderr"]


def _take_late(history: History, _: dict[str, Any]) -> None:
    history.late += 1


def _take_fault(history: History, event: dict[str, Any]) -> None:
    history.faults[event["fault"]] = Fault(begin=event.pop("t"), **_without(event))


def _take_healed(history: History, event: dict[str, Any]) -> None:
    history.faults[event["fault"]].end = event["t"]


def _take_left(history: History, event: dict[str, Any]) -> None:
    history.left.append(Left(event["run"], event["t"], event["pids"], event["text"]))


def _take_start(history: History, event: dict[str, Any]) -> None:
    attempt = history.attempts[event["run"]]
    if attempt.life is not None:
        raise ValueError(f"the command of run {event['run']} started twice")
    t = event["t"]
    attempt.life = Life(t, event["pid"], event["owner"], event["fence"], event["takeover"], t, t)


def _take_beat(history: History, event: dict[str, Any]) -> None:
    life = history.attempts[event["run"]].life
    if life is None:
        raise ValueError(f"run {event['run']} beats before its start")
    life.last = max(life.last, event["t"])
    if event["pid"] == life.pid:
        life.leader_last = max(life.leader_last, event["t"])


def _take_end(history: History, event: dict[str, Any]) -> None:
    _take_beat(history, event)
    life = history.attempts[event["run"]].life
    assert life is not None
    life.end, life.end_status, life.why = event["t"], event["status"], event["why"]


def _take_harness(history: History, event: dict[str, Any]) -> None:
    history.harness.append(event["text"])


def _without(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "what"}


_TAKE = {
    "plan": _take_plan,
    "tick": _take_tick,
    "spawn": _take_spawn,
    "late": _take_late,
    "exit": _take_exit,
    "fault": _take_fault,
    "healed": _take_healed,
    "left": _take_left,
    "start": _take_start,
    "beat": _take_beat,
    "end": _take_end,
    "harness": _take_harness,
}
