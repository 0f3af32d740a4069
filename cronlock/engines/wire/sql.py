"""What PostgreSQL and MySQL share: one row for each key, and the texts in it.

Columns: ``name`` (the key, see `code`), ``fence`` (the highest granted; 0 in a row that only
remembers who gave up), ``lapses_at`` and ``held_until`` (ends of lease and hold by the server's
clock; long ago where there is none), ``kept_until`` (the end of a hold that the present run was told
to ignore or took over, whether or not it is over), ``forced`` (the present run was made to end by
force), ``gone`` (the owners that gave the key back last, at most `GONE`), ``history`` (the lines of
past runs, the newest first, at most HISTORY), ``success`` (the line of the last run that succeeded), and
three runs, each as four columns:

- ``run_``: the one that was granted the key last and has not ended by its own word;
- ``last_``: the last one that has;
- ``kept_``: the one that ``kept_until`` belonged to, if that died: `abandon` makes it ``run_`` again.

Of each: ``owner`` (none: there is no such run), ``tick`` (`Run.tick`; of ``last_`` only if a standby may
still take it over), ``fence``, and ``line``, which is all that people are shown of it.

A line is text between tabs, ``name=value`` each. The node that asks writes its beginning (`head`); the
server appends what it alone knows: ``started_at`` and ``fence`` with the grant, ``took_over`` with a
takeover, ``ended_at``, ``outcome`` and ``status`` with the end, or ``outcome=died`` (``released`` if
forced) when the next run replaces it. Owners and lines are printable ASCII, whatever the database's
encoding, and begin with ``owner=`` and a tab behind it, so that a run is known in the history by its
first field.
"""

from __future__ import annotations

from ...errors import ConfigError, ForeignValue
from ...lease.record import released, run_from_fields
from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HOLD, UNDONE, Conflict, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.vocabulary import Claim, Ending, Run
    from ..url import URL

#: Where the rows are unless the URL says otherwise.
TABLE = "cronlock"
#: Every column that the statements name.
COLUMNS = (
    *("name", "fence", "lapses_at", "held_until", "kept_until", "forced", "gone", "history", "success"),
    *(f"{run}_{part}" for run in ("run", "last", "kept") for part in ("owner", "tick", "fence", "line")),
)
#: Why a statement did not grant: of these words, or one of `YOURS` and `FREE`.
CONFLICTS = (HELD, HOLD, FORGOTTEN, CANCELLED, ENDED)
#: The owner has the lease already.
YOURS = "yours"
#: Nothing was in the way as the statement began, and something is now: ask again.
FREE = "free"
#: How many owners that gave the key back are remembered.
GONE = 16
#: A longest `code(key)`: 200 characters of four bytes.
LONGEST_NAME = 2400
#: The longest lease and hold, in seconds.
LONGEST_TTL, LONGEST_HOLD = 365 * 86400.0, 3650 * 86400.0
# Bytes of a host's or a program's name that are kept.
_LONGEST_TEXT = 255
_TABLE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
# The shortest identifiers that servers take are PostgreSQL's.
_LONGEST_IDENTIFIER = 63


def table_name(url: URL) -> list[str]:
    """Return the parts of the table's name, one or (with a schema) two plain words; raise ConfigError for a bad one."""
    text = url.params.get("table", TABLE)
    parts = text.split(".")
    for part in parts:
        if not 0 < len(part) <= _LONGEST_IDENTIFIER or part[0].isdigit() or not set(part) <= _TABLE_CHARACTERS:
            raise ConfigError(
                f"{url}: table={text!r}: use NAME or SCHEMA.NAME, of letters, digits and '_', at most"
                f" {_LONGEST_IDENTIFIER} each"
            )
    if len(parts) > 2:
        raise ConfigError(f"{url}: table={text!r}: use NAME or SCHEMA.NAME")
    return parts


def check(claim: Claim) -> None:
    """Raise ConfigError for a hold that the server's times cannot tell."""
    if claim.hold > LONGEST_HOLD:
        raise ConfigError(
            f"--min-hold {claim.hold:.0f} is longer than a SQL backend keeps: at most {LONGEST_HOLD:.0f} s"
            f" ({LONGEST_HOLD / 86400:.0f}d)"
        )


def code(text: str) -> str:
    """Return `text` as printable ASCII without spaces: the rest, and ``%``, as %XX of its UTF-8 bytes."""
    if text.isascii() and text.isprintable() and " " not in text and "%" not in text:
        return text
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if 0x20 < byte < 0x7F and byte != 0x25 else f"%{byte:02X}" for byte in data)


def decode(name: str) -> str:
    """Undo `code`. What it cannot have made comes back somehow."""
    if "%" not in name:
        return name
    first, *rest = name.split("%")
    data = bytearray(first.encode("utf-8", "surrogateescape"))
    for part in rest:
        try:
            data.append(int(part[:2], 16))
            plain = part[2:]
        except ValueError:
            plain = f"%{part}"
        data += plain.encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "surrogateescape")


def head(claim: Claim) -> str:
    """Return the beginning of the line of the run that `claim` asks for; it ends without a tab."""
    fields = {
        "owner": claim.owner,
        "host": _bounded(claim.host),
        "pid": str(claim.pid),
        "program": _bounded(claim.program),
        "ttl": f"{claim.ttl:.3f}",
    }
    if claim.standby_for is not None:
        fields["stands_for"] = claim.standby_for
    return "\t".join(f"{name}={code(value)}" for name, value in fields.items())


def end(ending: Ending) -> str:
    """Return what is appended to a line at the end of its run, but for ``ended_at``; begins with a tab."""
    text = f"\toutcome={code(ending.outcome)}"
    return text if ending.status is None else f"{text}\tstatus={ending.status}"


def is_undone(ending: Ending) -> bool:
    """Whether a standby may still take over from a run that ended so."""
    return ending.outcome in UNDONE


def run_from_line(line: str | None) -> Run | None:
    """Return the run of a line; None for none. Raises ForeignValue for what is no run."""
    if not line:
        return None
    parts = (part.partition("=") for part in line.split("\t"))
    run = run_from_fields({name: decode(value) for name, _, value in parts})
    if run is None:
        raise ForeignValue(f"not a run of cronlock: {line[:40]!r}")
    return run


def previous_from_line(line: str | None) -> Run | None:
    """Return the run of the history's newest line; what is wrong with it does not undo a grant."""
    try:
        return run_from_line(line)
    except ForeignValue:
        return None


def runs_from_history(lines: list[str], but: Run | None) -> list[Run]:
    """Return the runs of a history without the one of the same owner as `but`, and without what is no run."""
    runs = [run for run in map(previous_from_line, lines) if run is not None]
    return [run for run in runs if but is None or run.owner != but.owner]


def conflict(why: str, remaining: float, *, line: str | None, fence: int | None, claim: Claim) -> Conflict:
    """Return the refusal for the reason `why`; `line` is of the latest run, ended or not.

    `remaining` counts for HELD and HOLD.
    """
    run = run_from_line(line)
    if why == FORGOTTEN:
        remaining = claim.doubt - noticed(claim)
    elif why not in (HELD, HOLD):
        remaining = 0.0
    return Conflict(why, remaining=max(0.0, remaining), run=run, fence=fence or None)


def floor(claim: Claim) -> int:
    """Return the highest fence that this node ever saw of the key; the next one must be larger."""
    return claim.sight.floor if claim.sight is not None else 0


def noticed(claim: Claim) -> float:
    """Return how long ago this node noticed first that the server forgot, in seconds.

    A database keeps what it committed over a restart, so that its uptime tells nothing of what was
    lost: a failover to a replica that lagged, or a restored backup, may come at any time.
    """
    return (claim.sight.noticed_age or 0.0) if claim.sight is not None else 0.0


def doubted(claim: Claim) -> bool:
    """Whether a server that shows less than `floor` may have lost a lease that is still out."""
    return claim.sight is not None and noticed(claim) < claim.doubt


def record(
    *,
    run: str | None,
    forced: bool,
    remaining: float,
    hold_remaining: float,
    last: str | None,
    history: list[str],
    success: str | None,
) -> Record:
    """Return what a row says; `run`, `last`, `success` and `history` are lines, times are seconds.

    Raises ForeignValue when it is not a row of cronlock's.
    """
    present = run_from_line(run)
    return Record(
        run=released(present, by_force=forced),
        remaining=max(0.0, remaining) if present is not None else 0.0,
        hold_remaining=max(0.0, hold_remaining),
        last=run_from_line(last),
        history=runs_from_history(history, present),
        success=run_from_line(success),
    )


def _bounded(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return data[:_LONGEST_TEXT].decode("utf-8", "surrogateescape") if len(data) > _LONGEST_TEXT else text
