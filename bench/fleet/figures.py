"""The figures of a tick: what each is called, how it is read off a row, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .fit import exponent
from .measure import Row

#: Growth is fitted from here on: below, what every tick costs hides what each node adds.
FIT_FROM = 100


@dataclass(frozen=True)
class Figure:
    """One column of the tables and one panel of the plots."""

    title: str
    read: Callable[[Row], float]
    show: Callable[[float], str]

    @property
    def caption(self) -> str:
        """The title with the unit."""
        units: dict[Callable[[float], str], str] = {seconds: ", s", _size: ", MB"}
        return self.title + units.get(self.show, "")


def seconds(value: float) -> str:
    """Write seconds with three digits that count."""
    return f"{value:.3f} s" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _size(value: float) -> str:
    return f"{value:.0f} MB" if value else ""


CPU = Figure("server's CPU", lambda row: row.cpu, seconds)
P99 = Figure("loser, p99", lambda row: row.p99, seconds)
FAILED = Figure("failed", lambda row: row.failed, _count)
FIGURES = (
    Figure("winner started", lambda row: row.started, seconds),
    Figure("last loser left", lambda row: row.last_left, seconds),
    Figure("loser, p50", lambda row: row.p50, seconds),
    P99,
    Figure("slowest loser", lambda row: row.slowest, seconds),
    FAILED,
    Figure("connections", lambda row: row.connects, _count),
    Figure("tried again", lambda row: row.turned_away, _count),
    Figure("requests", lambda row: row.requests, _count),
    CPU,
    Figure("memory", lambda row: row.memory, _size),
    Figure("records left", lambda row: row.records, _count),
)


def growth(figure: Figure, rows: Sequence[Row]) -> float | None:
    """Return the exponent by which `figure` grows with the runs of `rows`; a server that was full shows no growth."""
    well = [row for row in rows if row.case.runs >= FIT_FROM and (not row.failed or figure is FAILED)]
    return exponent([(row.case.runs, figure.read(row)) for row in well])


def curves(rows: Sequence[Row]) -> dict[tuple[int, float], list[Row]]:
    """Return the rows of each curve, by keys and spread of the clocks."""
    found: dict[tuple[int, float], list[Row]] = {}
    for row in rows:
        if row.case.lines == 1 and not row.case.jitter and not row.case.brief:
            found.setdefault((row.case.keys, row.case.spread), []).append(row)
    return found
