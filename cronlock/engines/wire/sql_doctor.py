"""Checks that the doctors of PostgreSQL and MySQL share: the login and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...doctor.findings import BAD, OK, Finding, decide
from ...errors import BackendUnavailable, ConfigError
from . import sql
from .doctor import ANSWER, REACHABLE, judge_made

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import TypeVar

    from ...doctor.probe import Case

    _Connection = TypeVar("_Connection")

#: The privileges of a user who runs jobs, and of the doctor, which removes its probe.
GRANTS = f"{sql.GRANTS}, DELETE"
CREATE = "make it: cronlock doctor --create"


def create(
    table: str,
    exists: Callable[[], object],
    make: Callable[[], object],
    who: str,
    denied: Sequence[object],
    raced: Sequence[object] = (),
) -> Finding:
    """Make `table` unless it exists; codes of refusals: `denied` to all but `who`, `raced` by another doctor."""
    made = False
    try:
        if not exists():
            make()
            made = True
    except sql.Refused as error:
        if error.code not in raced:
            remedy = f"run this once with the URL of {who}, then GRANT {GRANTS} ON {table} TO who runs jobs"
            return Finding("create", BAD, str(error), remedy if error.code in denied else None)
    return judge_made(f"table {table}", made=made)


def log_in(
    case: Case, connect: Callable[[float], _Connection], denied: Iterable[str], socket: str
) -> Generator[Finding, None, _Connection | None]:
    """Log in and return the connection. `denied` are signs of errors about the user, `socket` the path without TCP."""
    try:
        connection = connect(case.deadline())
    except (BackendUnavailable, ConfigError) as error:
        is_denied = any(sign in str(error) for sign in denied)
        yield Finding("credentials" if is_denied else ANSWER, BAD, str(error))
        return None
    if not case.url.hosts:
        yield Finding(REACHABLE, OK, socket)
    return connection


def judge_table(
    shown: str,
    columns: Iterable[str],
    lacks: Sequence[str],
    *faults: tuple[object, str, str],
    is_table: bool,
    kept: str = "",
) -> Finding:
    """Judge the table that is `shown` so: its columns, the rights that this user lacks, what else an engine knows.

    `faults` are whether each applies, what it says of the table, and what to do; `kept` is how its rows are kept.
    """
    missing = [name for name in sql.COLUMNS if name not in columns]
    other = f"{shown} is not a cronlock table of this layout: it lacks {', '.join(missing) or 'rows'}"
    found = decide(
        "table",
        (missing or not is_table, BAD, other, sql.MAKE_ANEW),
        *((applies, BAD, shown + text, remedy) for applies, text, remedy in faults),
        (True, OK, shown + kept, None),
    )
    if found.level == OK and lacks:
        remedy = f"GRANT {sql.GRANTS} ON {shown} TO the URL's user"
        return Finding("permissions", BAD, f"this user lacks {', '.join(lacks)} on {shown}", remedy)
    return found
