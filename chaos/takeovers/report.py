"""What was measured of takeovers, as lines for a terminal and as tables of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..occupancy import LATE
from ..words import BACKENDS, table
from .deaths import STEPS

#: Takeovers that come later than so many seconds after the ttl are counted, and the latest of them listed.
ALLOWED = 2.0
_LISTED = 3
_QUANTILES = (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
_STEP_NAMES = {
    "lease": "lease",
    "asking": "next request",
    "kept": "still refused",
    "failed": "no answer",
    "grant": "grant",
    "start": "start",
}


def delays(summary: Mapping[str, Any]) -> list[float]:
    """Return the seconds from each death to its takeover, in order."""
    return sorted(death["delay"] for death in _takeovers(summary))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that at least `share` of all do not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def late(summary: Mapping[str, Any], allowed: float = ALLOWED) -> list[Mapping[str, Any]]:
    """Return the deaths whose takeover came later than `allowed` seconds after the ttl, the latest first."""
    found = [death for death in _takeovers(summary) if death["delay"] > summary["ttl"] + allowed]
    return sorted(found, key=lambda death: -float(death["delay"]))


def line(summary: Mapping[str, Any]) -> str:
    """Return a backend's line for a terminal."""
    found = delays(summary)
    spread = ", ".join(f"{name} {quantile(found, share):.2f}" for name, share in _QUANTILES) if found else "none"
    twice, never, unrecorded = _done(summary)
    return (
        f"{summary['backend']}: {len(summary['deaths'])} deaths, {len(found)} takeovers, s after the death: {spread};"
        f" later than {summary['ttl']} s and {ALLOWED:g} s: {len(late(summary))}; done twice {twice}, never {never},"
        f" again since the power went between its end and the record {unrecorded}; load {summary['load']}"
    )


def outliers(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for each takeover that came late, with its steps."""
    return [
        f"  {death['delay']:.2f} s: " + ", ".join(f"{name} {death['steps'][name]:.2f}" for name in STEPS)
        for death in late(summary)
    ]


def in_order(summaries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the summaries in the order in which backends are shown."""
    return sorted(summaries, key=lambda one: [*BACKENDS].index(one["backend"]))


def tables(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of the document."""
    if not summaries:
        return "Not run yet."
    summaries = in_order(summaries)
    first = summaries[0]
    nodes, ttl = first["nodes"], first["ttl"]
    loads = [summary["load"] for summary in summaries]
    return "\n\n".join(
        [
            f"{nodes} nodes, a ttl of {ttl} s, a job of {first['job']:g} s; seconds from the death to the start on"
            f" another node; load averages {min(loads):g} to {max(loads):g} on {first['processors']} processors.",
            _spread(summaries),
            "The steps of these takeovers, p50 and the longest, in seconds:",
            _steps(summaries),
            f"The latest {_LISTED} of each backend that came later than ttl + {ALLOWED:g} s, by step:",
            _latest(summaries),
        ]
    )


def _spread(summaries: Sequence[Mapping[str, Any]]) -> str:
    allowed = f"ttl + {ALLOWED:g} s"
    head = ["backend", "deaths", "takeovers", "done twice", "never done", *(name for name, _ in _QUANTILES)]
    head += [f"later than {allowed}", "leases end late by", f"later than {allowed} and that"]
    rows = []
    for summary in summaries:
        found, own = delays(summary), LATE.get(summary["backend"], 0.0)
        twice, never, _ = _done(summary)
        cells = [len(summary["deaths"]), len(found), twice, never]
        rows.append(
            [
                name_of(summary),
                *map(str, cells),
                *(f"{quantile(found, share):.2f}" for _, share in _QUANTILES),
                str(len(late(summary))),
                f"up to {own:g} s" if own else "",
                str(len(late(summary, own + ALLOWED))),
            ]
        )
    return table(head, rows)


def _steps(summaries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for summary in summaries:
        cells = []
        for name in STEPS:
            found = sorted(death["steps"][name] for death in _takeovers(summary))
            cells.append(f"{quantile(found, 0.5):.2f}, {found[-1]:.2f}")
        rows.append([name_of(summary), *cells])
    return table(["backend", *_STEP_NAMES.values()], rows)


def _latest(summaries: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [name_of(summary), f"{death['delay']:.2f}", *(f"{death['steps'][name]:.2f}" for name in STEPS)]
        for summary in summaries
        for death in late(summary)[:_LISTED]
    ]
    return table(["backend", "takeover", *_STEP_NAMES.values()], rows) if rows else "None."


def name_of(summary: Mapping[str, Any]) -> str:
    """Return what a backend is called; each server is alone here, unlike those of the torture."""
    return BACKENDS[summary["backend"]].partition(",")[0]


def _takeovers(summary: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (death for death in summary["deaths"] if death["delay"] is not None)


def _done(summary: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return how many jobs were done twice, never, and again since no record of their end could be made."""
    deaths = summary["deaths"]
    twice, never = (sum(death["done"] == times and not death["unrecorded"] for death in deaths) for times in (2, 0))
    return twice, never, sum(death["unrecorded"] for death in deaths)
