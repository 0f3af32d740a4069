"""Tables of what was measured: for a terminal, and as Markdown."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import cases, watched
from .measure import Cost, Spread, ratio

_ROOT = Path(__file__).resolve().parent.parent

_TIME = "Time"
_BESIDE_ETCDCTL = f"Beside {cases.ETCDCTL}"
_REQUESTS = "Requests"
_DAY = "CPU of a day-long job with ttl 300"

_START = "Starting this interpreter is most of it: F alone comes near to what etcdctl takes."
_HTTP = (
    "A renewal goes through more code than one of a binary protocol (HTTP, JSON, for AWS a signature; for etcd twice),"
    " and after a pause all of it is out of the processor's caches: asked again at once it takes less than half."
)
#: By table and row, what it would take to keep within the limit.
_REMEDIES = {
    (_TIME, cases.TLS): "`import ssl` is most of it: the module builds enums and compiles patterns. It would take the"
    " interpreter's private `_ssl`, in the place where mistakes cost most.",
    (_BESIDE_ETCDCTL, cases.REDIS): _START,
    (_BESIDE_ETCDCTL, cases.PASSWORD): _START,
    (_REQUESTS, "memcached, a run"): "Each change of a key is one compare-and-swap of one item, and the first needs to"
    " know what it swaps. It takes a blind add, which cannot tell a server that forgot: see"
    " engines/memcached/store.py.",
    (
        _DAY,
        "ZooKeeper",
    ): "ZooKeeper's default lets no session last longer than 40 s, so a lease is renewed each 13 s. It"
    " would take servers with a maxSessionTimeout as long as the ttl.",
    **{(_DAY, cases.backend(name)): _HTTP for name in (cases.ETCD, cases.DYNAMODB, cases.SQS)},
}


@dataclass
class Table:
    """Cells as text."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: What is beyond its limit.
    short: list[str] = field(default_factory=list)

    def add(self, name: str, limit: str, cells: Sequence[str], *, keeps: bool) -> None:
        """Add a row, marked when it does not keep to its limit."""
        self.rows.append([name, limit, *cells, "" if keeps else "over"])
        if not keeps:
            measured = ", ".join(f"{head} {cell}" for head, cell in list(zip(self.head[2:], cells))[:2])
            remedy = _REMEDIES.get((self.title, name), "")
            self.short.append(f"{self.title}, {name}: {measured}; at most {limit}. {remedy}".rstrip())

    def text(self) -> str:
        """Return it for a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *(f"  {line}" for line in shown), *(f"  {note}" for note in self.notes)])

    def markdown(self) -> str:
        """Return it for the documentation."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        shown = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([f"### {self.title}", "", *shown, *(f"\n{note}" for note in self.notes)])


class Report:
    """All tables for one interpreter."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.tables: list[Table] = []
        #: Wall time in F, by case, for the plot.
        self.walls: dict[str, Spread] = {}
        self._costs: dict[str, list[Cost]] = {}

    def add_times(self, costs: dict[str, list[Cost]]) -> None:
        """Add the table of ratios."""
        self._costs = costs
        unit = costs[cases.F]
        table = Table(_TIME, ("whole process", "at most", "wall / F", "CPU / F", "wall", "CPU", ""))
        for name, limit in cases.LIMITS.items():
            if name not in costs:
                continue
            wall, cpu = ratio(costs[name], unit, "wall"), ratio(costs[name], unit, "cpu")
            self.walls[name] = wall
            keeps = limit is None or (wall.median <= limit and cpu.median <= limit)
            times = [_milliseconds(costs[name], what) for what in ("wall", "cpu")]
            table.add(name, "" if limit is None else f"{limit} F", [_spread(wall), _spread(cpu), *times], keeps=keeps)
        own = [_milliseconds(unit, what) for what in ("wall", "cpu")]
        table.rows.append([f"F: {cases.F}", "", "1", "1", *own, ""])
        table.notes.append(f"Medians and quartiles of {len(unit)} rounds; each ratio is of one round.")
        emulated = ", ".join(map(cases.backend, cases.EMULATED))
        table.notes.append(f"{emulated}: wall time is mostly that of an emulator, and no network's.")
        self.tables.append(table)
        if cases.ETCDCTL in costs:
            self._add_against_etcdctl(costs)

    def _add_against_etcdctl(self, costs: dict[str, list[Cost]]) -> None:
        table = Table(_BESIDE_ETCDCTL, ("whole process", "at most", "wall", "CPU", ""))
        for name in cases.ETCDCTL_LIMITED:
            wall, cpu = (ratio(costs[name], costs[cases.ETCDCTL], what) for what in ("wall", "cpu"))
            keeps = wall.median <= cases.ETCDCTL_LIMIT and cpu.median <= cases.ETCDCTL_LIMIT
            table.add(name, f"{cases.ETCDCTL_LIMIT} times", [_spread(wall), _spread(cpu)], keeps=keeps)
        self.tables.append(table)

    def add_memory(self, found: dict[str, float]) -> None:
        """Add the table of memory while a job runs."""
        table = Table("Memory while a job runs, after a renewal", ("backend", "at most", "its processes (PSS)", ""))
        for backend, size in found.items():
            limit = watched.MEMORY_LIMITS[backend]
            most = "" if limit is None else f"{limit:g} MB"
            table.add(cases.backend(backend), most, [f"{size:.1f} MB"], keeps=limit is None or size <= limit)
        table.notes.append("Pages of the interpreter that the benchmark itself has mapped count in part.")
        self.tables.append(table)

    def add_day(self, found: dict[str, tuple[int, float]], seconds: float) -> None:
        """Add the table of a day-long job's CPU."""
        table = Table(
            _DAY,
            ("backend", "at most", "a day", "renewals a day", "a renewal", "renewals seen", ""),
        )
        for backend, (number, used) in found.items():
            start = Spread.of([cost.cpu for cost in self._costs[backend]]).median
            each = used / number
            day = start + each * watched.DAILY[backend]
            cells = [f"{day:.2f} s", str(watched.DAILY[backend]), f"{each * 1e3:.2f} ms", str(number)]
            table.add(cases.backend(backend), f"{watched.DAY_LIMIT:g} s", cells, keeps=day < watched.DAY_LIMIT)
        table.notes.append(
            f"From {seconds:g} s with ttl 3: a day's renewals at what one took there, and a run's start."
        )
        self.tables.append(table)

    def add_wakeups(self, found: dict[str, int]) -> None:
        """Add the table of wake-ups while nothing is due."""
        table = Table("Wake-ups while nothing is due, ttl 300", ("backend", "at most", "its processes", "within", ""))
        for backend, number in found.items():
            table.add(cases.backend(backend), "0", [str(number), f"{watched.QUIET[backend]} s"], keeps=number == 0)
        self.tables.append(table)

    def add_requests(self, found: dict[tuple[str, str], watched.Counted]) -> None:
        """Add the table of what the servers counted."""
        head = ("backend", "at most", "requests", "as counted by the server", "connections", "")
        table = Table(_REQUESTS, head)
        for (backend, what), (commands, connections) in found.items():
            limit = watched.REQUEST_LIMITS.get(backend, watched.USUAL_REQUESTS)[what]
            number = watched.round_trips(commands)
            counted = ", ".join(f"{name} {times}" for name, times in commands.items())
            keeps = number <= limit and connections == 1
            table.add(
                f"{cases.backend(backend)}, a {what}", str(limit), [str(number), counted, str(connections)], keeps=keeps
            )
        self.tables.append(table)

    def add_copied(self, number: int) -> None:
        """Add the table of output that went through cronlock."""
        table = Table("Output", ("of 100 MB that the command wrote", "at most", "bytes", ""))
        table.add("read and written by its processes", "0", [str(number)], keeps=number == 0)
        self.tables.append(table)

    def short(self) -> list[str]:
        """Name what is beyond its limit."""
        return [f"Python {self.version}: {line}" for table in self.tables for line in table.short]


def markdown(reports: Sequence[Report], missing: Sequence[str]) -> str:
    """Return docs/performance.md."""
    short = [line for report in reports for line in report.short()]
    parts = [
        "# What a run costs",
        "Made by `make bench WRITE=1`; do not edit. The unit **F** is what `python3 -I -c pass` takes with the same\n"
        "interpreter in the same round. cronlock is installed by pip into a virtual environment and started as cron\n"
        "would start it: no locale, a fresh key for each run. CPU is that of cronlock, the command and all between.",
        "![Wall time of each case, in starts of the interpreter](performance.svg)",
        f"Measured {time.strftime('%Y-%m-%d')} on {machine()}, servers on loopback.",
    ]
    parts.append("## Beyond its limit\n\n" + ("\n".join(f"- {line}" for line in short) or "Nothing."))
    if missing:
        parts.append("## Not compared with\n\n" + "\n".join(f"- {line}" for line in missing))
    for report in reports:
        parts += [f"## Python {report.version}", *(table.markdown() for table in report.tables)]
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """Describe this machine in general words."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    kernel = ".".join(os.uname().release.split("-")[0].split(".")[:2])
    return f"{os.cpu_count()} cores of {model} ({os.uname().machine}), Linux {kernel}"


def _spread(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def _milliseconds(costs: Sequence[Cost], what: str) -> str:
    return f"{Spread.of([getattr(cost, what) for cost in costs]).median * 1e3:.1f} ms"
