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

_USUAL = cases.Limit()
#: By table and row, what it would take to keep within the limit.
_REMEDIES = {
    (
        _DAY,
        "ZooKeeper",
    ): "ZooKeeper's default lets no session last longer than 40 s, so a lease is renewed each 13 s. It"
    " would take servers with a maxSessionTimeout as long as the ttl.",
    **{
        (_DAY, cases.backend(name)): "A renewal signs its request, and after a pause that code is out of the"
        " processor's caches: asked again at once it takes less than half."
        for name in (cases.DYNAMODB, cases.S3, cases.SQS)
    },
}


@dataclass
class Over:
    """What is over its limit: the table's title, the row, what was measured, the limit, and what it would take."""

    title: str
    name: str
    measured: str
    most: str
    remedy: str

    def __str__(self) -> str:
        """Return it for a terminal."""
        return f"{self.title}, {self.name}: {self.measured}; at most {self.most}. {self.remedy}".rstrip()


@dataclass
class Table:
    """Cells as text."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    over: list[Over] = field(default_factory=list)

    def add(self, name: str, limit: str, cells: Sequence[str], *, keeps: bool) -> None:
        """Add a row, marked when it does not keep to its limit."""
        self.rows.append([name, limit, *cells, "" if keeps else "over"])
        if not keeps:
            measured = ", ".join(f"{head} {cell}" for head, cell in list(zip(self.head[2:], cells))[:2])
            self.over.append(Over(self.title, name, measured, limit, _REMEDIES.get((self.title, name), "")))

    def text(self) -> str:
        """Return it for a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *(f"  {line}" for line in shown), *(f"  {note}" for note in self.notes)])

    def markdown(self) -> str:
        """Return it for the documentation."""
        return "\n".join(
            [f"### {self.title}", "", in_markdown(self.head, self.rows), *(f"\n{note}" for note in self.notes)]
        )


class Report:
    """All tables for one installation."""

    def __init__(self, lab: cases.Lab) -> None:
        self.title = lab.installation.title
        self.tables: list[Table] = []
        #: Wall time in F, by case, for the plot.
        self.walls: dict[str, Spread] = {}
        self._lab = lab
        self._costs: dict[str, list[Cost]] = {}

    def add_times(self, costs: dict[str, list[Cost]]) -> None:
        """Add the table of ratios."""
        self._costs = costs
        unit = costs[cases.F]
        table = Table(_TIME, ("whole process", "at most", "wall / F", "CPU / F", "wall", "CPU", ""))
        for name in cases.LIMITS:
            if name not in costs:
                continue
            limit = self._lab.limit(name)
            wall, cpu = ratio(costs[name], unit, "wall"), ratio(costs[name], unit, "cpu")
            self.walls[name] = wall
            keeps = _keeps(limit.starts, wall, cpu, limit)
            times = [_milliseconds(costs[name], what) for what in ("wall", "cpu")]
            table.add(name, _shown(limit.starts, "F", limit), [_spread(wall), _spread(cpu), *times], keeps=keeps)
        own = [_milliseconds(unit, what) for what in ("wall", "cpu")]
        table.rows.append([f"F: {cases.F}", "", "1", "1", *own, ""])
        table.notes.append(f"Medians and quartiles of {len(unit)} rounds; each ratio is of one round.")
        emulated = ", ".join(cases.backend(name) for name in costs if not cases.LIMITS.get(name, cases.Limit()).wall)
        table.notes.append(f"{emulated}: wall time is mostly that of an emulator, and no network's.")
        self.tables.append(table)
        if cases.ETCDCTL in costs:
            self._add_against_etcdctl(costs)

    def _add_against_etcdctl(self, costs: dict[str, list[Cost]]) -> None:
        table = Table(_BESIDE_ETCDCTL, ("whole process", "at most", "wall", "CPU", ""))
        for name, limit in cases.LIMITS.items():
            if limit.rivals is not None:
                most = self._lab.limit(name).rivals
                wall, cpu = (ratio(costs[name], costs[cases.ETCDCTL], what) for what in ("wall", "cpu"))
                table.add(name, _shown(most, "times"), [_spread(wall), _spread(cpu)], keeps=_keeps(most, wall))
        self.tables.append(table)

    def add_crontab(self, lines: int, found: dict[str, list[Cost]]) -> None:
        """Add the table of a whole crontab at once."""
        head = ("all at once", "at most", "until the last has ended", "CPU of a line", "")
        table = Table(f"A crontab of {lines} lines in the same moment", head)
        walls = {name: Spread.of([cost.wall for cost in costs]) for name, costs in found.items()}
        for name, costs in found.items():
            cpu = Spread.of([cost.cpu / lines for cost in costs]).median
            # The rival's own time is no limit of its own; a tenth is noise.
            most = walls[cases.ETCDCTL].median * 1.1 if name != cases.ETCDCTL and cases.ETCDCTL in walls else None
            cells = [f"{_spread(walls[name])} s", f"{cpu * 1e3:.1f} ms"]
            table.add(name, "" if most is None else f"{most:.2f} s", cells, keeps=_keeps(most, walls[name]))
        table.notes.append(f"Medians of {len(next(iter(found.values())))} rounds; no line may fail.")
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
            most = watched.MOST_WAKEUPS.get(backend, 0)
            figures = [str(number), f"{watched.QUIET[backend]} s"]
            table.add(cases.backend(backend), str(most), figures, keeps=number <= most)
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

    def over(self) -> list[Over]:
        """Return what is over its limit."""
        return [one for table in self.tables for one in table.over]

    def run(self, name: str) -> str:
        """Return what a case takes, for the first table; empty if it was not timed."""
        return (
            f"{_milliseconds(self._costs[name], 'wall')}, {self.walls[name].median:.2f} F" if name in self.walls else ""
        )


def markdown(reports: Sequence[Report], missing: Sequence[str]) -> str:
    """Return docs/performance.md."""
    titles = [report.title for report in reports]
    runs = [[f"`{name}`", *(report.run(name) for report in reports)] for name in cases.LIMITS]
    parts = [
        "# What a run costs",
        f"Wall time of a whole process, measured {time.strftime('%Y-%m-%d')} on {machine()}, with the servers on\n"
        "loopback. The unit **F** is the time of `python3 -I -c pass` with the same interpreter in the same round.",
        in_markdown(["process", *titles], [row for row in runs if any(row[1:])]),
        "![Wall time of each case, in starts of the interpreter](performance.svg)",
        "`make bench WRITE=1` writes this page. It starts cronlock as cron does: no locale, a fresh key for each run.\n"
        "It measures what `make deb` installs, and what pip installs into a virtual environment. CPU time is that of\n"
        f"cronlock, the command and all processes between. The limits for pip are {cases.BY_PIP} F higher: the\n"
        "environment's `site` takes as long.",
        "## Over the limit",
        "A limit is a goal of the project. What is over it costs more than we would like, and works as well.",
        _over(reports),
    ]
    if missing:
        parts.append("## Not compared with\n\n" + "\n".join(f"- {line}" for line in missing))
    for report in reports:
        parts += [f"## {report.title}", *(one.markdown() for one in report.tables)]
    return "\n\n".join(parts) + "\n"


def in_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def _over(reports: Sequence[Report]) -> str:
    """Return the table of what is over its limit, a row for each measurement, and the reasons below it."""
    found: dict[tuple[str, str], dict[str, Over]] = {}
    for report in reports:
        for one in report.over():
            found.setdefault((one.title, one.name), {})[report.title] = one
    if not found:
        return "Nothing."
    titles, reasons, rows = [report.title for report in reports], dict[str, list[str]](), []
    for (title, name), ones in found.items():
        cells = [f"{ones[at].measured} (limit {ones[at].most})" if at in ones else "" for at in titles]
        rows.append([f"{title}: {name}", *cells])
        remedy = next(iter(ones.values())).remedy
        if remedy:
            reasons.setdefault(remedy, []).append(name)
    notes = [f"- {'; '.join(names)}: {remedy}" for remedy, names in reasons.items()]
    return "\n\n".join([in_markdown(["what", *titles], rows), *(["\n".join(notes)] if notes else [])])


def _keeps(most: float | None, wall: Spread, cpu: Spread | None = None, limit: cases.Limit = _USUAL) -> bool:
    """Return True if what counts is within `most`."""
    counted = [*([wall] if limit.wall else []), *([cpu] if cpu is not None else [])]
    return most is None or all(spread.median <= most for spread in counted)


def _shown(most: float | None, unit: str, limit: cases.Limit = _USUAL) -> str:
    return "" if most is None else f"{most:.3g} {unit}" + ("" if limit.wall else " of CPU")


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
