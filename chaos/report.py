"""The tables of docs/reliability.md, from the summaries that harness runs leave behind.

    python -m chaos.report SUMMARY.json...   the figures of these runs, and no others, into docs/
    python -m chaos.report --add SUMMARY.json...   the same, on top of what stands there
    python -m chaos.report                   the tables anew from the figures in docs/
    python -m chaos.report --check           fail if the tables are not those of the figures

Summaries are what `check`, `mutants`, `mutants.score`, `soak` and `fuzz --write` make. docs/reliability.json has the
sums.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import pairs
from .check import NO_FAULT
from .findings import DOUBLE, FENCE, HOLD, KINDS, LEFT, LOST, OUTLIVE, OVERLAP, STATUS, STUCK
from .takeovers import plot
from .takeovers import report as takeovers
from .words import BACKENDS, FAULTS, MOMENTS, READ, table

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_DOCUMENT, _FIGURES, _PLOT = "reliability.md", "reliability.json", "takeovers.svg"
#: Kind of a summary -> where it is listed.
_LISTS = {"soak": "soaks", "fuzz": "fuzz", "mutant": "mutants", "takeovers": "takeovers"}
#: Of each of these the newest counts: what is listed by this name.
_NEWEST = (("soaks", "backend"), ("mutants", "name"), ("takeovers", "backend"))
_SUMS = ("seconds", "attempts", "runs", "ticks", "unasked", "held", "injected", "busy")
_ROW_SUMS = ("injected", "runs", "takeovers", *KINDS)
#: Faults that take the leader away.
LEADERS = ("leader-kill", "isolate-leader", "leader-stop", "failover")
_PROCESSES = (OUTLIVE, LEFT)
_WORDS = {
    OVERLAP: ("overlap", "overlaps"),
    FENCE: ("fence out of order", "fences out of order"),
    DOUBLE: ("repeated tick", "repeated ticks"),
    HOLD: ("hold cut short", "holds cut short"),
    LOST: ("missed tick", "missed ticks"),
    STATUS: ("wrong exit status", "wrong exit statuses"),
    OUTLIVE: ("run that outlived its lease", "runs that outlived their leases"),
    LEFT: ("leaked process", "leaked processes"),
    STUCK: ("stuck key", "stuck keys"),
}
_MARK = re.compile(r"<!-- (?P<name>[a-z]+) -->\n.*?<!-- /(?P=name) -->\n", re.DOTALL)

Figures = dict[str, Any]


def merge(summaries: Iterable[Mapping[str, Any]]) -> Figures:
    """Return the sums of summaries; ValueError for one that proves nothing."""
    figures: Figures = {"backends": {}, "soaks": [], "fuzz": [], "mutants": [], "score": {}, "takeovers": []}
    for summary in summaries:
        kind = summary.get("kind", "torture")
        if kind == "torture":
            if summary["harness"]:
                raise ValueError(f"the harness failed: {summary['backend']}, seed {summary['seed']}")
            if summary.get("mutant"):
                raise ValueError(f"with a deliberate bug: {summary['backend']}, {summary['mutant']}")
            backends = figures["backends"]
            backends[summary["backend"]] = _plus(backends.get(summary["backend"], _nothing()), _total_of(summary))
        elif kind in _LISTS:
            figures[_LISTS[kind]].append(dict(summary))
        elif kind == "score":
            figures["score"].update(summary["files"])
        else:
            raise ValueError(f"a summary of an unknown kind: {kind}")
    for kind, name in _NEWEST:
        figures[kind].sort(key=lambda one, name=name: str(one[name]))
    return figures


def added(before: Figures, figures: Figures) -> Figures:
    """Return `before` with `figures` on top: more runs, more inputs, and of all else the newer ones."""
    backends = dict(before["backends"])
    for name, total in figures["backends"].items():
        backends[name] = _plus(backends.get(name, _nothing()), total)
    newer = {
        kind: sorted({one[name]: one for one in before[kind] + figures[kind]}.values(), key=lambda one: str(one[name]))
        for kind, name in _NEWEST
    }
    score = {**before["score"], **figures["score"]}
    return {"backends": backends, "fuzz": before["fuzz"] + figures["fuzz"], "score": score, **newer}


def _nothing() -> Figures:
    sums: Figures = dict.fromkeys(_SUMS, 0)
    return {**sums, "histories": 0, "seeds": [], "ttl": [], "faults": {}, "kills": {}, "pairs": {}, "violations": []}


def _total_of(summary: Mapping[str, Any]) -> Figures:
    """Return the sums of one history."""
    columns = (*_ROW_SUMS, "apart", "longest_apart", "takeover")
    return {
        **{name: summary[name] for name in (*_SUMS, "kills", "pairs", "violations")},
        "histories": 1,
        "seeds": [summary["seed"]],
        "ttl": [summary["ttl"]],
        "faults": {name: {column: row[column] for column in columns} for name, row in summary["faults"].items()},
    }


def _plus(one: Figures, other: Figures) -> Figures:
    """Return the sums of two."""
    total = {name: round(one[name] + other[name], 1) for name in (*_SUMS, "histories")}
    faults = dict(one["faults"])
    for name, row in other["faults"].items():
        faults[name] = _rows_together(faults[name], row) if name in faults else row
    return {
        **total,
        "seeds": sorted({*one["seeds"], *other["seeds"]}),
        "ttl": sorted({*one["ttl"], *other["ttl"]}),
        "pairs": _counted(one["pairs"], other["pairs"]),
        "violations": one["violations"] + other["violations"],
        "kills": {
            process: _counted(one["kills"].get(process, {}), other["kills"].get(process, {}))
            for process in {*one["kills"], *other["kills"]}
        },
        "faults": faults,
    }


def _rows_together(one: Figures, other: Figures) -> Figures:
    takeovers = [row["takeover"] for row in (one, other) if row["takeover"] is not None]
    return {
        **{column: one[column] + other[column] for column in _ROW_SUMS},
        "apart": _counted(one["apart"], other["apart"]),
        "longest_apart": max(one["longest_apart"], other["longest_apart"]),
        "takeover": max(takeovers, default=None),
    }


def _counted(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {*one, *other}}


def tables(figures: Figures) -> dict[str, str]:
    """Return what stands at each marked place of the document."""
    return {
        "totals": _totals(figures),
        "kills": _kills(figures),
        "faults": "\n\n".join(_of_backend(name, total) for name, total in _ordered(figures)),
        "apart": _apart(figures),
        "leaders": _leaders(figures),
        "pairs": pairs.table(sum((Counter(total["pairs"]) for total in figures["backends"].values()), Counter())),
        "mutants": _mutants(figures),
        "score": _score(figures),
        "soak": _soak(figures),
        "fuzz": _fuzz(figures),
        "takeovers": takeovers.tables(figures["takeovers"]),
    }


def _ordered(figures: Figures) -> list[tuple[str, Figures]]:
    order = [*BACKENDS]
    return sorted(
        figures["backends"].items(), key=lambda item: (order.index(item[0]) if item[0] in order else 99, item)
    )


def _totals(figures: Figures) -> str:
    head = ["backend", "hours", "starts", "commands run", "faults injected"]
    head += ["overlaps", "fences out of order", "repeated ticks", "holds cut short"]
    rows = []
    everything: Figures = {"seconds": 0, "attempts": 0, "runs": 0, "injected": 0, "busy": 0}
    all_kinds = dict.fromkeys(KINDS, 0)
    for name, total in _ordered(figures):
        kinds = {kind: sum(row[kind] for row in total["faults"].values()) for kind in KINDS}
        rows.append(_total_row(BACKENDS.get(name, name), total, kinds))
        for column in everything:
            everything[column] += total[column]
        for kind, number in kinds.items():
            all_kinds[kind] += number
    rows.append([f"**{cell}**" for cell in _total_row("all", everything, all_kinds)])
    sums = table([*head, "missed ticks", "wrong exit statuses", "leaked processes", "stuck keys"], rows)
    return f"{sums}\n\nFor {everything['busy'] / 3600:.2f} of these hours the machine was found to have too much to do."


def _total_row(name: str, total: Figures, kinds: Mapping[str, int]) -> list[str]:
    found = (kinds[kind] for kind in (OVERLAP, FENCE, DOUBLE, HOLD, LOST, STATUS))
    processes = sum(kinds[kind] for kind in _PROCESSES)
    numbers = [total["attempts"], total["runs"], total["injected"], *found, processes, kinds[STUCK]]
    return [name, f"{total['seconds'] / 3600:.2f}", *map(_number, numbers)]


def _kills(figures: Figures) -> str:
    sums: dict[str, dict[str, int]] = {}
    for total in figures["backends"].values():
        for process, moments in total["kills"].items():
            for moment, number in moments.items():
                sums.setdefault(process, dict.fromkeys(MOMENTS, 0))[moment] += number
    rows = [[process, *(_number(moments[moment]) for moment in MOMENTS)] for process, moments in sorted(sums.items())]
    count = sum(sum(moments.values()) for moments in sums.values())
    return f"{_number(count)} in all.\n\n" + table(["SIGKILL to", *MOMENTS], rows)


def _of_backend(name: str, total: Figures) -> str:
    head = ["fault", "injected", "runs", "overlaps", "repeated ticks", "missed ticks", "other", "longest takeover"]
    rows = []
    for fault, row in sorted(total["faults"].items(), key=lambda item: (item[0] != NO_FAULT, item[0])):
        other = sum(row[kind] for kind in KINDS if kind not in (OVERLAP, DOUBLE, LOST))
        takeover = "" if row["takeover"] is None else f"{row['takeover']:.1f} s"
        times = "" if fault == NO_FAULT else _number(row["injected"])
        numbers = map(_number, (row["runs"], row[OVERLAP], row[DOUBLE], row[LOST], other))
        rows.append([FAULTS.get(fault, fault), times, *numbers, takeover])
    ttls = " or ".join(f"{ttl:g}" for ttl in total["ttl"])
    seeds = _ranges(total["seeds"])
    title = f"### {BACKENDS.get(name, name)}"
    return f"{title}\n\nttl {ttls} s; seeds {seeds}.\n\n{table(head, rows)}"


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers for people, such as 3, 7 to 9."""
    shown: list[list[int]] = []
    for number in numbers:
        if shown and number == shown[-1][-1] + 1:
            shown[-1].append(number)
        else:
            shown.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if run[2:] else ", ".join(map(str, run)) for run in shown)


def _leaders(figures: Figures) -> str:
    rows = []
    for name, total in _ordered(figures):
        hits = [total["faults"].get(fault, {"injected": 0})["injected"] for fault in LEADERS]
        if any(hits):
            rows.append([BACKENDS.get(name, name), *map(_number, hits)])
    return table(["backend", *(FAULTS[fault] for fault in LEADERS)], rows) if rows else "None."


def _apart(figures: Figures) -> str:
    head = ["backend", "fault", "injected", "expected violations", "longest overlap"]
    rows = []
    for name, total in _ordered(figures):
        for fault, row in sorted(total["faults"].items()):
            if row["apart"]:
                found = ", ".join(f"{number} {_plain(kind, number)}" for kind, number in sorted(row["apart"].items()))
                longest = f"{row['longest_apart']:.1f} s" if OVERLAP in row["apart"] else ""
                where = BACKENDS.get(name, name)
                rows.append([where, FAULTS.get(fault, fault), _number(row["injected"]), found, longest])
    return table(head, rows) if rows else "Nothing."


def _plain(kind: str, number: int) -> str:
    one, many = _WORDS[kind]
    return one if number == 1 else many


def _mutants(figures: Figures) -> str:
    head = ["bug", "backend", "fault", "seed", "caught", "violations"]
    rows = []
    for mutant in figures["mutants"]:
        found = ", ".join(f"{number} {_plain(kind, number)}" for kind, number in sorted(mutant["found"].items()))
        broken = ", ".join(FAULTS.get(name, name) for name in mutant["faults"].split(","))
        backend = BACKENDS.get(mutant["backend"], mutant["backend"])
        rows.append(
            [mutant["what"], backend, broken, str(mutant["seed"]), "yes" if mutant["caught"] else "**no**", found]
        )
    return table(head, rows) if rows else "Not run yet."


def _score(figures: Figures) -> str:
    """Return the table of the changes that unit tests notice: a row for each file."""
    files = figures["score"]
    total = {name: sum(one[name] for one in files.values()) for name in ("changes", "noticed", "excluded")}
    rows = []
    for file, one in [*((f"`{file}`", files[file]) for file in sorted(files)), ("**all**", total)]:
        share = f"{100 * one['noticed'] / max(one['changes'], 1):.1f} %"
        rows.append([file, _number(one["changes"]), _number(one["noticed"]), share, _number(one["excluded"])])
    return table(["file", "changes", "noticed", "share", "not counted"], rows)


def _soak(figures: Figures) -> str:
    head = ["backend", "seconds", "renewals", "wrapper: memory", "guard: memory"]
    head += ["wrapper: descriptors", "guard: descriptors"]
    rows = []
    for soak in figures["soaks"]:
        kinds = ("wrapper", "guard")
        sizes = [f"{soak[kind]['first_mb']:.2f} to {soak[kind]['last_mb']:.2f} MB" for kind in kinds]
        counts = [f"{soak[kind]['first_descriptors']} to {soak[kind]['last_descriptors']}" for kind in kinds]
        name = BACKENDS.get(soak["backend"], soak["backend"])
        rows.append([name, _number(int(soak["seconds"])), _number(soak["renewals"]), *sizes, *counts])
    return table(head, rows) if rows else "Not run yet."


def _fuzz(figures: Figures) -> str:
    sums: dict[str, int] = {}
    crashes = 0
    for fuzz in figures["fuzz"]:
        crashes += fuzz["crashes"]
        for name, number in fuzz["targets"].items():
            sums[name] = sums.get(name, 0) + number
    rows = sorted([READ[name], _number(number)] for name, number in sums.items())
    rows.append(["**all**", f"**{_number(sum(sums.values()))}, {crashes} crashes**"])
    return table(["what is read", "inputs"], rows) if sums else "Not run yet."


def _number(number: int) -> str:
    return f"{number:,}"


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Return a document with `parts` at their marked places; LookupError if a place is missing."""
    marks = {match["name"] for match in _MARK.finditer(text)}
    if marks != {*parts}:
        raise LookupError(f"the document has places for {sorted(marks)}, the report for {sorted(parts)}")
    return _MARK.sub(
        lambda match: f"<!-- {match['name']} -->\n{parts[match['name']]}\n<!-- /{match['name']} -->\n", text
    )


def on_record(docs: Path = _DOCS) -> Figures:
    """Return the figures in docs/."""
    figures: Figures = json.loads((docs / _FIGURES).read_text())
    return figures


def main(arguments: Sequence[str], docs: Path = _DOCS) -> int:
    """Write the figures and the tables, or check the tables; return the exit status."""
    document, kept, picture = docs / _DOCUMENT, docs / _FIGURES, docs / _PLOT
    files = [Path(name) for name in arguments if not name.startswith("--")]
    if files:
        figures = merge(json.loads(file.read_text()) for file in files)
        if "--add" in arguments:
            figures = added(on_record(docs), figures)
        kept.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    figures = on_record(docs)
    made = {
        document: fill(document.read_text(), tables(figures)),
        picture: plot.svg(figures["takeovers"]),
    }
    if "--check" in arguments:
        stale = [file.name for file, text in made.items() if not file.exists() or file.read_text() != text]
        if stale:
            print(f"{' and '.join(stale)} does not have the figures of {kept.name}: run python -m chaos.report")
        return 1 if stale else 0
    for file, text in made.items():
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
