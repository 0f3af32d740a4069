"""Records as text, for backends whose server does not know fields.

One line a field, ``name=value``, names in the order written. A reader passes over names that it
does not know, so that nodes with an older program can read what a newer one wrote.
"""

from __future__ import annotations

from ..errors import ForeignValue
from .vocabulary import DIED, HISTORY, RELEASED, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The first line of every text, which says whose it is and in which layout.
MAGIC = "cronlock=1"

_RUN_FIELDS = (
    *("owner", "host", "pid", "program", "started_at", "ttl", "fence", "ended_at", "outcome", "status"),
    *("stands_for", "took_over"),
)


def encode(fields: dict[str, str]) -> bytes:
    """Return the text of `fields`; values may be any text, names are plain words."""
    lines = [MAGIC]
    lines += [f"{name}={_quote(value)}" for name, value in fields.items()]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def decode(data: bytes) -> dict[str, str]:
    """Undo `encode`; raise ForeignValue for anything else."""
    try:
        # Names of programs and hosts may hold bytes that are no text.
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        if lines[0] != MAGIC or lines[-1] != "":
            raise ValueError("not a record")
        fields = {}
        for line in lines[1:-1]:
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError("no =")
            fields[name] = _unquote(value)
    except ValueError:
        raise ForeignValue(f"not a record of cronlock: {data[:40]!r}") from None
    return fields


def run_to_fields(run: Run, prefix: str = "") -> dict[str, str]:
    """Return the fields of a run under `prefix`; what is None is left out."""
    fields = {}
    for name in _RUN_FIELDS:
        value = getattr(run, name)
        if value is not None:
            fields[prefix + name] = f"{value:.3f}" if isinstance(value, float) else str(value)
    return fields


def run_from_fields(fields: dict[str, str], prefix: str = "") -> Run | None:
    """Undo `run_to_fields`; None if there is no run under `prefix`.

    Raises ForeignValue when a field is not of its kind.
    """
    owner = fields.get(prefix + "owner")
    if not owner:
        return None

    def text(name: str) -> str:
        return fields.get(prefix + name, "")

    try:
        return Run(
            owner=owner,
            host=text("host"),
            pid=int(text("pid") or 0),
            program=text("program"),
            started_at=_finite(text("started_at") or "0"),
            ttl=_finite(text("ttl") or "0"),
            fence=int(text("fence")) if text("fence") else None,
            ended_at=_finite(text("ended_at")) if text("ended_at") else None,
            outcome=text("outcome") or None,
            status=int(text("status")) if text("status") else None,
            stands_for=text("stands_for") or None,
            took_over=int(text("took_over")) if text("took_over") else None,
        )
    except ValueError:
        raise ForeignValue(f"a record's run has a field of the wrong kind: {owner[:60]!r}") from None


def run_to_line(run: Run) -> str:
    """Return a run as one line, for a list of runs: fields between tabs."""
    return "\t".join(f"{name}={_quote_line(value)}" for name, value in run_to_fields(run).items())


def run_from_line(line: str) -> Run | None:
    """Undo `run_to_line`; None for what is not a run, which a list passes over."""
    try:
        parts = (part.partition("=") for part in line.split("\t"))
        return run_from_fields({name: _unquote_line(value) for name, _, value in parts})
    except ForeignValue:
        return None


def runs_from_lines(text: str, but: Run | None = None) -> list[Run]:
    """Return the runs of `text`, one a line, without the one of the same owner as `but`."""
    runs = [run for run in map(run_from_line, text.split("\n")) if run is not None]
    return [run for run in runs if but is None or run.owner != but.owner]


def with_run(history: list[Run], run: Run) -> list[Run]:
    """Return `history`, the newest first, with `run` as its newest, at the length that is kept."""
    return [run, *(other for other in history if other.owner != run.owner)][:HISTORY]


def put_together(kept: list[Run], *, run: Run | None, last: Run | None) -> tuple[list[Run], Run | None]:
    """Return (history, last success) of runs that lie in several places, in any order and perhaps twice."""
    found = {one.owner: one for one in kept}
    if last is not None:
        found[last.owner] = last
    if run is not None:
        found.pop(run.owner, None)
    newest_first = sorted(found.values(), key=lambda one: one.fence or 0, reverse=True)
    return newest_first[:HISTORY], next((one for one in newest_first if one.succeeded), None)


def cut_off(run: Run, *, by_force: bool) -> Run:
    """Return a run that never said its end as the history has it: it died, or was released by force."""
    values: dict[str, Any] = {name: getattr(run, name) for name in Run._fields}
    return Run(**{**values, "outcome": RELEASED if by_force else DIED})


def released(run: Run | None, *, by_force: bool) -> Run | None:
    """Return the newest run as a reader is to see it: RELEASED if it was made to end by force."""
    return cut_off(run, by_force=True) if run is not None and by_force else run


def _quote_line(value: str) -> str:
    return _quote(value).replace("\t", "%09")


def _unquote_line(value: str) -> str:
    return _unquote(value.replace("%09", "\t"))


def _finite(text: str) -> float:
    value = float(text)
    if not -1e15 < value < 1e15:
        raise ValueError(text)
    return value


def _quote(value: str) -> str:
    return value.replace("%", "%25").replace("\n", "%0A")


def _unquote(value: str) -> str:
    return value.replace("%0A", "\n").replace("%25", "%")


def gone_with(gone: tuple[str, ...], owner: str, most: int, *, kept: str | None) -> tuple[str, ...]:
    """Return who gave the key back last, `owner` the latest of them, at most so many.

    `kept` stays among them: a run that was released by force, as long as it is the last one, lest it count as dead.
    """
    found = (*(one for one in gone if one != owner), owner)[-most:]
    return found if kept is None or kept in found else (kept, *found[1:])
