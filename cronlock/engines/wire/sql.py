"""The parts that PostgreSQL and MySQL share: a table with one row for each key, and the store over it.

Columns: ``name`` (the key), ``version`` (a random token, new in each write), ``record`` (ASCII), ``lapses_at`` and
``held_until`` (the ends of lease and hold by the server's clock, in microseconds since 1970; 0 for none). Times are
whole numbers, since sums of these are exact and mean the same in both products.

An engine adds its statements. A read is one plain SELECT, which takes no lock and waits for none. A swap is one
statement, which takes effect only if the row still has the version that was seen, or if there is still no row.
"""

from __future__ import annotations

import time

from ...errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from ...lease.clock import SystemClock
from ...lease.server_clock import ServerClock
from ...lease.store import Cell
from ...lease.vocabulary import Traits
from ...system import os
from .stream import ServerBusy, in_turn, protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from ...lease.store import Hold
    from ..url import URL

    _T = TypeVar("_T")

#: The default table.
TABLE = "cronlock"
#: Every column that the statements name.
COLUMNS = ("name", "version", "record", "lapses_at", "held_until")
#: The least that a user needs on the table. DELETE lets records be removed.
GRANTS = "SELECT, INSERT, UPDATE"
#: The remedy for a table that lacks some of them.
MAKE_ANEW = "drop it while no job runs and make it by `cronlock doctor --create`, or name another by table="
#: The longest lease, in seconds.
LONGEST_TTL = 365 * 86400.0
#: How many names a request lists.
PAGE = 1000
#: Stands for the server's time, in microseconds, in what `ends` returns.
NOW = "$NOW"
_TABLE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
# The part of a request's time that a statement may wait for a lock.
_PATIENCE = 0.9
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


def not_ours(text: str, table: str) -> str:
    """Return what to say where the server says `text` since the table lacks a column, or has others."""
    return f"{text}: {table} is not a cronlock table of this layout; nothing was changed: {MAKE_ANEW}"


class Refused(BackendUnavailable):
    """The server answered with an error: nothing of that statement was done, nor of those behind it.

    Those before it in one request were done.
    """

    def __init__(self, text: str, code: Any) -> None:
        super().__init__(text)
        #: MySQL's number for it, or PostgreSQL's SQLSTATE.
        self.code = code


class Servers:
    """The servers of a URL, and one connection to the first of them that takes connections and writes.

    An engine adds `_connect_to`, and knows what its connections are.
    """

    #: The codes of refusals since the table is missing, is another one, or may not be used.
    no_table: tuple[object, ...]
    other_table: tuple[object, ...]
    denied: tuple[object, ...]

    def __init__(self, name: str, addresses: Sequence[Any], shown_table: str) -> None:
        #: Their name in messages.
        self.name = name
        self.addresses = addresses
        #: The table as people name it.
        self.shown_table = shown_table
        self._connection: Any = None

    def connection(self, deadline: float) -> Any:
        """Return the connection, opened by monotonic time `deadline` if need be."""
        if self._connection is not None and not self._connection.quiet():
            # The server hung up while nothing was asked: no reason to fail the next request.
            self.close()
        if self._connection is None:
            self._connection = self._connect(deadline)
        return self._connection

    def close(self) -> None:
        """Close the connection; raises nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def explained(self, error: Refused) -> Exception:
        """Return what the server's refusal means here, with what to do about it."""
        text, table = str(error), self.shown_table
        if error.code in self.no_table:
            return ConfigError(f"{text}; make it with `cronlock doctor --create`, or name another by table=")
        if error.code in self.other_table:
            return ForeignValue(not_ours(text, table))
        if error.code in self.denied:
            return BackendUnavailable(f"{text}; to allow it: GRANT {GRANTS} ON {table} TO the URL's user")
        return error

    def asked(self, deadline: float, ask: Callable[[Any], _T]) -> _T:
        """Return what `ask` gets on the connection.

        Any failure but Refused closes the connection: the reply may still arrive, and must not be read as the next's.
        """
        try:
            return ask(self.connection(deadline))
        except Refused:
            raise
        except BaseException:
            self.close()
            raise

    def _connect(self, deadline: float) -> Any:
        """Connect to the first server that takes writes; one that does not answer costs its share of the time."""
        failures: list[Exception] = []
        for address, share in in_turn(self.addresses, deadline):
            try:
                return self._connect_to(address, share)
            except (BackendError, ConfigError) as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        # The first names the servers, the others go on from there.
        text = "; ".join([str(failures[0]), *(str(error).partition(f"{self.name}: ")[2] for error in failures[1:])])
        raise (ServerBusy if any(isinstance(error, ServerBusy) for error in failures) else BackendUnavailable)(text)

    def _connect_to(self, address: Any, deadline: float) -> Any:
        """Return a connection to one of `addresses`, before monotonic time `deadline`, if that takes writes."""
        raise NotImplementedError


def patience(deadline: float) -> float:
    """Return for how many seconds a statement may wait for a lock: less than are left, so that the server says why."""
    return (deadline - time.monotonic()) * _PATIENCE


class TableCell(Cell):
    """A row as it was at one moment."""

    held_until: int = 0


class TableStore:
    """A `Store` over a table. An engine adds `_look`, `_put`, `_names`, `_key` and what its servers are called."""

    #: The servers' product, in messages.
    product = ""

    def __init__(self, servers: Servers, timeout: float) -> None:
        self.traits = Traits(shortest_ttl=1.0, longest_ttl=LONGEST_TTL, granularity=0.001)
        self.timeout = timeout
        self.notices: list[str] = []
        #: The servers, for checks of these rather than of keys.
        self.servers = servers
        #: The server's name in messages.
        self.name = servers.name
        #: The table as people name it.
        self.table = servers.shown_table
        self._clock = SystemClock()
        self._server_clock = ServerClock(self.name, self._clock, self.notices)

    def read(self, key: str, deadline: float, *, exact: bool = False) -> Cell:
        """Return the cell, by one request; `exact` also where that is of a node which may be behind others."""
        return self._read(key, deadline, exact=exact)

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, Cell]:
        """Replace the cell that was seen by `data`, in one request; a refused swap reads the row again."""
        version, sent = os.urandom(8).hex(), self._clock.now()
        row = self._put(key, seen, version, data.decode("ascii"), ends(seen, lease, hold), deadline)
        if row is None:
            return False, self._read(key, deadline, exact=True)
        return True, self._cell(sent, row[0], version, data, *row[1:])

    def location(self, key: str) -> str:
        """Return what messages call the row."""
        return f"{self.name}: the row of {key!r} in {self.table}"

    def keys(self) -> Iterator[str]:
        """List the keys, a page a request; `timeout` limits each of these."""
        last = b""
        while True:
            names = self._names(last)
            for name in names:
                if not isinstance(name, bytes) or name <= last:
                    # It would never come to an end.
                    raise self._protocol_error()
                last = name
                yield self._key(name)
            if len(names) < PAGE:
                return

    def watch(self, key: str) -> None:
        """Return None: what tells of changes needs a session of its own, which poolers do not give."""

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: a restart loses nothing, and what a failover or a restored backup lost no uptime tells."""

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self.servers.close()

    # For engines to add

    def _look(self, key: str, deadline: float, *, exact: bool) -> Sequence[Any]:
        """Return the server's time, and the other columns of the key's row: None each if there is no row.

        `exact` asks for the newest row, such as after a refused swap.
        """
        raise NotImplementedError

    def _put(
        self, key: str, seen: Cell, version: str, record: str, ends: tuple[str, str], deadline: float
    ) -> Sequence[Any] | None:
        """Write the row; return the server's time and both ends, or None if what was seen is not there any more."""
        raise NotImplementedError

    def _names(self, last: bytes) -> Sequence[Any]:
        """Return the next names behind `last`, at most `PAGE`, in the order of their bytes."""
        raise NotImplementedError

    def _key(self, name: bytes) -> str:
        """Return the key of a row's name."""
        raise NotImplementedError

    def _protocol_error(self) -> BackendUnavailable:
        """Close the connection, and return what to raise for an answer that no server of this kind gives."""
        self.close()
        return protocol_error(self.name, self.product)

    def _read(self, key: str, deadline: float, *, exact: bool) -> Cell:
        sent = self._clock.now()
        row = self._look(key, deadline, exact=exact)
        return self._cell(sent, *row)

    def _cell(self, sent: float, now: Any, version: Any, data: Any, lapses_at: Any, held_until: Any) -> TableCell:
        """Return what a row shows that was asked for at `sent`, and take note of the server's time."""
        try:
            time, lapse, until = _whole(now), _whole(lapses_at or 0), _whole(held_until or 0)
            cell = TableCell(
                data=None if version is None else _bytes(data),
                version=None if version is None else _bytes(version).decode("utf-8", "surrogateescape"),
                lease=max(0, lapse - time) / 1e6,
                hold=max(0, until - time) / 1e6,
                floor=max(0, time),
                time=time / 1e6,
                held_until=until,
            )
        except (TypeError, ValueError) as error:
            raise self._protocol_error() from error
        self._server_clock.observe(sent, self._clock.now(), time / 1e6)
        return cell


def ends(seen: Cell, lease: float | None, hold: Hold) -> tuple[str, str]:
    """Return what a swap makes of the columns ``lapses_at`` and ``held_until``, as expressions of SQL."""
    is_there = seen.version is not None
    lapses_at, held_until = ("lapses_at", "held_until") if is_there else ("0", "0")
    if lease is not None:
        lapses_at = _end(lease)
    if isinstance(hold, Cell):
        held_until = str(hold.held_until if isinstance(hold, TableCell) else 0)
    elif hold:
        held_until = f"GREATEST({held_until}, {_end(hold)})"
    return lapses_at, held_until


def _end(seconds: float) -> str:
    # Rounded up: it may last longer, not shorter.
    return f"{NOW} + {-int(-seconds * 1_000_000 // 1)}" if seconds else "0"


def _whole(value: Any) -> int:
    """Return a number of the server's; raise TypeError or ValueError for what no BIGINT is."""
    if isinstance(value, str):
        if len(value) > 20:
            raise ValueError("no BIGINT")
        value = int(value)
    if not isinstance(value, int):
        raise TypeError("no whole number")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("no BIGINT")
    return value


def _bytes(value: Any) -> bytes:
    """Return a column of text as bytes; raise TypeError for another type."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        raise TypeError("no text")
    return value
