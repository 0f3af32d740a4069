"""What was measured, as lines for a terminal and as docs/fleet.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import advice
from .figures import CPU, FIGURES, FIT_FROM, curves, growth, seconds
from .found import Found
from .measure import CRONTABS, JITTERS, Row
from .real import Comparison
from .soak import EVERY, LINES, Minute

_PROSE = Path(__file__).with_name("fleet.md.in")
_SOAK = re.compile(r"<!-- soak -->\n.*?<!-- /soak -->", re.DOTALL)
_SERVER_SOAK = re.compile(r"^\*\*(\w+)\*\*.*?(?=^\*\*\w+\*\*|<!-- /soak -->)", re.DOTALL | re.MULTILINE)
_NO_SOAK = "Not run: `make fleet FLEET='--soak 600' WRITE=1`."


def line(row: Row) -> str:
    """Return a row for a terminal."""
    told = ", ".join(f"{figure.title} {figure.show(figure.read(row))}" for figure in FIGURES)
    wrong = f"; WRONG: {row.wrong} keys" if row.wrong else ""
    why = f"; {row.reasons[0]}" if row.reasons else ""
    return f"  {_case(row)}: {row.won} won, {row.skipped} skipped, {told}; load late by {seconds(row.late)}{wrong}{why}"


def minute(found: Minute) -> str:
    """Return a minute of the soak for a terminal."""
    return "  " + ", ".join(f"{head} {cell}" for head, cell in zip(_MINUTE, _minute(found)))


def compared(name: str, comparison: Comparison) -> str:
    """Say what the server counted of real and of simulated runs."""
    ours, theirs = (_counts(counts, comparison.losers) for counts in (comparison.real, comparison.simulated))
    if comparison.equal:
        return f"{name}: {comparison.losers} real runs that skip and as many simulated ones: the same, {ours}."
    return f"{name}: {comparison.losers} real runs that skip: {ours}; simulated ones: {theirs}. **Not the same.**"


def markdown(found: Sequence[Found], earlier: str) -> str:
    """Return docs/fleet.md; of the `earlier` one the soak stays."""
    soak = _SOAK.search(earlier)
    parts = {
        "machine": "\n".join(_measured(found)),
        "short": "\n".join(f"- {text}" for text in _short(found)),
        "truth": "\n".join(f"- {compared(one.name, one.comparison)}" for one in found if one.comparison),
        "advice": "\n".join(advice.table({one.name: one.rows for one in found})),
        "costs": "\n".join(
            f"- {one.name}: {advice.cost(one.rows) * 1e6:,.0f} µs of CPU for each run"
            for one in found
            if one.name not in advice.LIMITS
        ),
        "growth": "\n".join(_growth(found)),
        "tables": "\n\n".join(_section(one) for one in found),
        "soak": soak[0] if soak else f"<!-- soak -->\n{_NO_SOAK}\n<!-- /soak -->",
    }
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], _PROSE.read_text())


def with_soak(document: str, soaks: Mapping[str, tuple[int, Sequence[Minute]]]) -> str:
    """Return the document with other soaks: of each server the nodes and what each minute showed. Others stay."""
    earlier = _SOAK.search(document)
    tables = {match[1]: match[0].strip() for match in _SERVER_SOAK.finditer(earlier[0] if earlier else "")}
    for name, (nodes, minutes) in soaks.items():
        ticks = minutes[-1].ticks if minutes else 0
        wrong, failed = sum(one.wrong for one in minutes), sum(one.failed for one in minutes)
        verdict = "every line ran exactly once at every tick" if not wrong else f"{wrong} lines did not run just once"
        tables[name] = (
            f"**{name}**, {nodes:,} nodes, {ticks} ticks: {verdict}; {failed} runs of {ticks * nodes * LINES:,} failed."
            f"\n\n{_table(_MINUTE, [_minute(one) for one in minutes])}"
        )
    head = f"Nodes with {LINES} lines each, every {EVERY:g} s, jitter 3 s; a row for each minute."
    text = "\n\n".join(["<!-- soak -->\n" + head, *tables.values()]) + "\n<!-- /soak -->"
    return _SOAK.sub(lambda _: text, document)


def _measured(found: Sequence[Found]) -> list[str]:
    """Say which server was measured when and where."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in found:
        load = "" if one.load is None else f" (load average before: {one.load:g})"
        places.setdefault((one.date, one.machine), []).append(one.version + load)
    lines = [f"Measured {date} on {where}: {', '.join(told)}." for (date, where), told in places.items()]
    return [*lines, f"Servers are on loopback. Growth is fitted from {FIT_FROM} nodes on, up to where runs failed."]


def _short(found: Sequence[Found]) -> list[str]:
    """Say what matters most of each server: the largest tick on one key that went well, and the first that did not."""
    lines = []
    for one in found:
        rows = curves(one.rows).get((1, 0.0), [])
        well = [row for row in rows if not row.failed and not row.wrong]
        if well:
            best = well[-1]
            lines.append(
                f"**{one.name}**: {best.case.nodes:,} nodes on one key, clocks equal: {best.won} ran, {best.skipped:,}"
                f" skipped, 0 failed. A loser's p99 is {seconds(best.p99)}{_cost(one.name, best, rows)}."
            )
        bad = [row for row in one.rows if row.failed]
        if bad:
            first = bad[0]
            lines.append(f"**{one.name}** is full at {_case(first)}: {first.failed:,} runs got no reply in time.")
        twice = sum(row.twice for row in one.rows)
        never = sum(row.wrong for row in one.rows) - twice
        if twice or never:
            lines.append(f"**{one.name}**: {twice} keys ran twice; {never:,} ran on no node, since none got a reply.")
    return lines


def _cost(name: str, best: Row, rows: Sequence[Row]) -> str:
    """Say what the tick cost the server, unless it is an emulator of a service."""
    if name in advice.LIMITS:
        return ""
    exponent = growth(CPU, rows)
    grows = "" if exponent is None else f", which grows as N^{exponent:.2f}"
    return f"; the server's CPU time is {best.cpu / best.case.runs * 1e6:,.0f} µs a node{grows}"


def _growth(found: Sequence[Found]) -> list[str]:
    lines = ["| server | keys | clocks | " + " | ".join(figure.title for figure in FIGURES) + " |"]
    lines.append("|" + " --- |" * (3 + len(FIGURES)))
    for one in found:
        for (keys, spread), rows in curves(one.rows).items():
            exponents = [growth(figure, rows) for figure in FIGURES]
            cells = ["" if number is None else f"{number:.2f}" for number in exponents]
            lines.append(f"| {one.name} | {keys} | {_clocks(spread)} | " + " | ".join(cells) + " |")
    return lines


def _section(found: Found) -> str:
    """Return the tables of one server."""
    parts = [f"## {found.version}"]
    head = ["nodes", "ran", "skipped", *(figure.title for figure in FIGURES), "load late"]
    for (keys, spread), rows in curves(found.rows).items():
        what = "One key" if keys == 1 else f"{keys} keys, one a node"
        parts += [f"### {what}, clocks {_clocks(spread)}", _table(head, [_cells(row) for row in rows])]
    jitters = [row for row in found.rows if row.case in JITTERS]
    if jitters:
        parts += ["### One key, clocks equal, with `--jitter`", _table(head, [_cells(row) for row in jitters])]
    crontabs = [row for row in found.rows if row.case in CRONTABS]
    if crontabs:
        parts += ["### Whole crontabs, clocks equal", _table(head, [_cells(row) for row in crontabs])]
    return "\n\n".join(parts)


def _cells(row: Row) -> list[str]:
    first = f"{row.case.nodes:,}" if row.case.lines == 1 and not row.case.jitter else _case(row)
    return [
        first,
        f"{row.won:,}",
        f"{row.skipped:,}",
        *(figure.show(figure.read(row)) for figure in FIGURES),
        seconds(row.late),
    ]


def _case(row: Row) -> str:
    case = row.case
    if case.lines > 1:
        what = f"{case.nodes:,} nodes with {case.lines} lines each"
    else:
        what = f"{case.nodes:,} nodes on {'one key' if case.keys == 1 else f'{case.keys} keys'}"
    jitter = f", jitter {case.jitter:g} s" if case.jitter else ""
    return what + (f", clocks {_clocks(case.spread)}" if case.spread else "") + jitter


def _clocks(spread: float) -> str:
    return "equal" if not spread else f"± {spread:g} s"


_MINUTE = ("tick", "not just once", "failed", "slowest", "CPU", "memory", "descriptors", "records")


def _minute(found: Minute) -> list[str]:
    return [
        str(found.ticks),
        str(found.wrong),
        str(found.failed),
        seconds(found.slowest),
        seconds(found.cpu),
        f"{found.memory:.1f} MB",
        str(found.descriptors),
        str(found.records),
    ]


def _counts(counts: Mapping[str, int], runs: int) -> str:
    return ", ".join(f"{name} {number} ({number / runs:.2f} a run)" for name, number in sorted(counts.items()))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
