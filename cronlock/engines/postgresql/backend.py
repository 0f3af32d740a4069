"""Leases in a table of PostgreSQL.

    postgresql://[user[:password]@]HOST[:5432][,HOST...]/DATABASE     postgres:// is the same
    postgresql://[user[:password]@]/DATABASE?host=/run/postgresql     by a Unix socket; &port=5432

Parameters: ``table`` (``NAME`` or ``SCHEMA.NAME``, default ``cronlock``; `cronlock doctor --create` makes
it), and libpq's own for TLS and Kerberos (`LIBPQ`), with its defaults: without ``sslmode`` TLS is used
where the server has it, and nothing is verified. What the URL leaves out libpq takes from where it always
does: a password from ``PGPASSFILE`` or ``~/.pgpass``.

Of several hosts the first is used that takes connections and writes: a standby is passed over. The
server's clock alone judges leases and holds. Being refused, renewing and releasing are one statement
each; a run costs two, and a connection, which stays open for the run.
"""

from __future__ import annotations

import time

from ...errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from ...lease.clock import SystemClock
from ...lease.timing import Jumps
from ...lease.vocabulary import HELD, Conflict, Grant, Traits
from ..wire import sql
from ..wire.stream import Busy, patiently
from . import sql as statements
from .link import Link, Refused, resolve, senseless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...lease.clock import Clock
    from ...lease.vocabulary import Claim, Ending, Record
    from ..url import URL
    from .link import Row

PORT = 5432
#: The parameters that libpq is given as they are.
LIBPQ = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "ssl_min_protocol_version"),
    *("channel_binding", "require_auth", "gssencmode", "krbsrvname", "passfile"),
)
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_OLDEST = 100000
_PAGE = 1000
# Which part of a request's time a statement may wait for a lock.
_PATIENCE = 0.9
# SQLSTATEs. A transaction that the server rolled back since it met another: nothing was done.
_ROLLED_BACK = ("40001", "40P01")
_READ_ONLY = "25006"
_NO_TABLE = ("42P01", "3F000")
_OTHER_TABLE = ("42703", "42804", "42883", "42P10", "42809", "428C9")
_DENIED = "42501"
_LOCKED = "55P03"


def open_backend(url: URL, timeout: float) -> PostgresqlBackend:
    """Return the backend for a URL; raise ConfigError for a bad one."""
    params = url.take_params(("table", "host", "port", *LIBPQ))
    database = url.path[1:]
    if not database or "\0" in url.path:
        raise ConfigError(f"{url}: names no database; write {url.scheme}://HOST/DATABASE")
    if params.get("sslmode", "prefer") not in _SSLMODES:
        raise ConfigError(f"{url}: sslmode={params['sslmode']!r}: use one of {', '.join(_SSLMODES)}")
    for name, value in params.items():
        if "\0" in value or not value:
            raise ConfigError(f"{url}: parameter {name!r} has no value that could be used")
    for name, given in (("user", url.user), ("password", url.password)):
        if "\0" in (given or ""):
            raise ConfigError(f"{url}: no {name} has a zero byte (%00) in it")
    for name in _FILES:
        if name in params and params[name] != "system":
            _need_file(url, name, params[name])
    parts = sql.table_name(url)
    settings = {name: params[name] for name in LIBPQ if name in params}
    settings.update(dbname=database, target_session_attrs="read-write", application_name="cronlock")
    # All that is sent is ASCII; messages are not.
    settings["client_encoding"] = "UTF8"
    if url.user is not None:
        settings["user"] = url.user
    if url.password is not None:
        settings["password"] = url.password
    return PostgresqlBackend(url, _places(url), settings, parts, timeout)


def _need_file(url: URL, name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{url}: cannot use {name}={path}: {error.strerror}") from error


def _places(url: URL) -> list[tuple[str, str]]:
    """Return host and port of each server, as libpq takes them."""
    directory, port = url.params.get("host"), url.params.get("port", str(PORT))
    if directory is None:
        if "port" in url.params:
            raise ConfigError(f"{url}: port= belongs to host=/DIRECTORY; write {url.scheme}://HOST:PORT/DATABASE")
        return [(host, str(number)) for host, number in url.need_hosts(PORT)]
    if url.hosts or not directory.startswith("/"):
        raise ConfigError(f"{url}: host= is the directory of a Unix socket: {url.scheme}:///DATABASE?host=/DIRECTORY")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"{url}: bad port; use a number from 1 to 65535")
    return [(directory, port)]


class PostgresqlBackend:
    """The rules of leases, one statement each."""

    def __init__(
        self,
        url: URL,
        places: list[tuple[str, str]],
        settings: dict[str, str],
        table: list[str],
        timeout: float,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.traits = Traits(fencing=True, shortest_ttl=1.0, longest_ttl=sql.LONGEST_TTL, granularity=0.001)
        self.notices: list[str] = []
        #: What messages call the server.
        self.name = str(url)
        #: Host and port of each server, the directory of a socket for the former.
        self.places = places
        #: The table as statements name it, and as people do.
        self.table = ".".join(f'"{part}"' for part in table)
        self.shown_table = ".".join(table)
        self._settings = settings
        self._timeout = timeout
        self._clock: Clock = clock or SystemClock()
        self._link: Link | None = None
        self._jumps = Jumps(self.name)

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `Backend.acquire`. Raises ConfigError for a hold beyond all measure."""
        sql.check(claim)
        values = (
            *(sql.code(claim.key), sql.code(claim.owner), sql.head(claim)),
            *(f"{claim.ttl:.6f}", f"{claim.hold:.6f}", _boolean(claim.ignore_hold)),
            *(str(sql.floor(claim)), _boolean(sql.doubted(claim))),
            None if claim.standby_for is None else sql.code(claim.standby_for),
        )
        deadline = self._deadline()
        sent = self._clock.now()

        def ask() -> Row:
            (row,) = self._ask(statements.ACQUIRE, values, 7, deadline, may_lack_table=True)
            return row

        def look() -> Row:
            row = ask()
            if row[0] == sql.FREE:
                raise Busy(f"{self.name}: the key changes faster than it can be looked at")
            return row

        try:
            # Where another was faster by a moment, the next statement sees what it made of the row.
            row = ask()
            why, now, fence, lease, hold, line, before = patiently(deadline, look) if row[0] == sql.FREE else row
            self._compare_clocks(claim.owner, sent, _number(now))
            if why in sql.CONFLICTS:
                remaining = _number(lease if why == HELD else hold)
                return sql.conflict(why, remaining, line=line, fence=_whole(fence), claim=claim)
            run = sql.run_from_line(line)
            if run is None or run.owner != claim.owner or run.fence is None:
                raise ValueError(line)
        except ForeignValue as error:
            raise self._foreign(claim.key, error) from error
        except ValueError as error:
            raise self._senseless() from error
        previous = sql.previous_from_line(before)
        return Grant(claim, fence=run.fence, ttl=claim.ttl, previous=previous, took_over=run.took_over)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on; False when it is no longer ours."""
        claim, sent = grant.claim, self._clock.now()
        rows = self._request(statements.RENEW, 1, claim.key, claim.owner, f"{grant.ttl:.6f}")
        if rows:
            self._compare_clocks(claim.owner, sent, self._numeric(rows[0][0]))
        return bool(rows)

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; False when it was not ours."""
        success = ending.outcome == "exited" and ending.status == 0
        words = (sql.end(ending), _boolean(sql.is_undone(ending)), _boolean(success), _boolean(keep_hold))
        rows = self._request(statements.RELEASE, 1, grant.claim.key, grant.claim.owner, *words)
        return bool(rows) and self._numeric(rows[0][0]) > 0

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came, and refuse one that comes late."""
        self._request(statements.ABANDON, 0, claim.key, claim.owner)

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; False if it was not theirs."""
        rows = self._request(statements.FORCE_RELEASE, 1, key, owner)
        return bool(rows) and rows[0][0] == "t"

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, changing nothing."""
        rows = self._ask(statements.READ, (sql.code(key),), 7, self._deadline(), may_lack_table=True)
        if not rows:
            return None
        run, forced, remaining, hold_remaining, last, success, history = rows[0]
        try:
            return sql.record(
                run=run,
                forced=forced == "t",
                remaining=_number(remaining),
                hold_remaining=_number(hold_remaining),
                last=last,
                history=(history or "").split("\n"),
                success=success,
            )
        except ForeignValue as error:
            raise self._foreign(key, error) from error
        except ValueError as error:
            raise self._senseless() from error

    def watch(self, key: str) -> None:
        """Return None: what tells of changes needs a session of its own, which poolers do not give."""

    def keys(self) -> Iterator[str]:
        """List the keys, a thousand a request; `timeout` limits each of these."""
        last = ""
        while True:
            rows = self._ask(statements.LIST, (last, str(_PAGE)), 1, self._deadline(), may_lack_table=True)
            for (name,) in rows:
                if name is None or name <= last:
                    raise self._senseless()
                last = name
                yield sql.decode(name)
            if len(rows) < _PAGE:
                return

    def link(self, deadline: float | None = None) -> Link:
        """Return the connection, for who looks at the server rather than at keys."""
        if self._link is not None and not self._link.is_quiet():
            # The server hung up while nothing was asked: no reason to fail the next request.
            self.close()
        if self._link is None:
            self._link = self._connect(self._deadline() if deadline is None else deadline)
        return self._link

    def close(self) -> None:
        """Close the connection; raises nothing."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # One request

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _request(self, statement: str, width: int, key: str, owner: str, *words: str) -> list[Row]:
        return self._ask(statement, (sql.code(key), sql.code(owner), *words), width, self._deadline())

    def _ask(
        self,
        statement: str,
        values: Sequence[str | None],
        width: int,
        deadline: float,
        *,
        may_lack_table: bool = False,
    ) -> list[Row]:
        """Send a statement until the server has room and does not roll it back; return its rows of `width` columns.

        Raises ConfigError for a missing table if `may_lack_table`: a run that has its lease goes on asking.
        """
        try:
            return patiently(deadline, lambda: self._ask_once(statement, values, width, deadline))
        except Refused as error:
            explained = self._explained(error)
            if error.code in _NO_TABLE and may_lack_table:
                raise ConfigError(str(explained)) from error
            raise explained from error

    def _ask_once(self, statement: str, values: Sequence[str | None], width: int, deadline: float) -> list[Row]:
        try:
            link = self.link(deadline)
            # Less than all the time that is left: the server is to say what it waits for.
            text = statements.statement(statement, self.table, (deadline - time.monotonic()) * _PATIENCE)
            return link.ask(text, values, width, deadline)
        except Refused as error:
            if error.code in _ROLLED_BACK:
                # Only where the default isolation is stricter than PostgreSQL's own.
                raise Busy(str(error)) from error
            if not error.code.startswith(("22", "42")):
                self.close()
            raise
        except BaseException:
            # An answer may still be on its way, which the next request must not take for its own.
            self.close()
            raise

    def _connect(self, deadline: float) -> Link:
        """Connect to the first server that takes writes; one that does not answer costs its share of the time."""
        failures: list[BackendUnavailable] = []
        for position, (host, port) in enumerate(self.places):
            now = time.monotonic()
            share = now + (deadline - now) / (len(self.places) - position)
            try:
                return self._connect_to(host, port, share)
            except BackendUnavailable as error:
                failures.append(error)
        # The first names the servers, the others go on from there.
        text = "; ".join([str(failures[0]), *(str(error)[len(self.name) + 2 :] for error in failures[1:])])
        raise (Busy if any(isinstance(error, Busy) for error in failures) else BackendUnavailable)(text)

    def _connect_to(self, host: str, port: str, deadline: float) -> Link:
        """Connect to the first address of a host that answers."""
        addresses = [""] if host.startswith("/") else resolve(self.name, host)
        for position, address in enumerate(addresses):
            now = time.monotonic()
            settings = {**self._settings, "host": host, "port": port, "hostaddr": address}
            try:
                link = Link.connect(self.name, settings, now + (deadline - now) / (len(addresses) - position))
            except BackendUnavailable:
                if position + 1 == len(addresses):
                    raise
                continue
            if link.version >= _OLDEST:
                return link
            link.close()
            break
        raise BackendUnavailable(f"{self.name}: {host} is too old: cronlock needs PostgreSQL 10 or later")

    def _explained(self, error: Refused) -> BackendError:
        """Return what was refused with what to do about it."""
        text, table = str(error), self.shown_table
        if error.code in _NO_TABLE:
            return BackendUnavailable(f"{text}; make it with `cronlock doctor --create`, or name another by table=")
        if error.code in _OTHER_TABLE:
            remedy = "nothing was changed: name another by table="
            return ForeignValue(f"{text}: {table} is no table of cronlock's; {remedy}")
        if error.code == _DENIED:
            return BackendUnavailable(f"{text}; to allow it: GRANT {statements.GRANTS} ON {table} TO the URL's user")
        if error.code == _LOCKED:
            return BackendUnavailable(f"{text}: somebody has a row of {table} locked: see pg_stat_activity")
        if error.code == _READ_ONLY:
            return BackendUnavailable(f"{text}; name the primary")
        return error

    def _foreign(self, key: str, error: ForeignValue) -> ForeignValue:
        return ForeignValue(f"{self.name}: the row of {key!r} in {self.shown_table}: {error}; nothing was changed")

    def _senseless(self) -> BackendUnavailable:
        self.close()
        return senseless(self.name)

    def _numeric(self, text: str | None) -> float:
        try:
            return _number(text)
        except ValueError as error:
            raise self._senseless() from error

    def _compare_clocks(self, owner: str, sent: float, server: float) -> None:
        notice = self._jumps.see(owner, sent, self._clock.now(), server)
        if notice is not None:
            self.notices.append(notice)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _number(text: str | None) -> float:
    """Return a number of the server's, 0 for none; raise ValueError for what is none."""
    value = float(text or 0)
    if not -1e15 < value < 1e15:
        raise ValueError(text)
    return value


def _whole(text: str | None) -> int:
    return int(text or 0)
