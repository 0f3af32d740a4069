"""Leases in a table of MySQL or MariaDB, by PyMySQL.

    mysql://[user[:password]@]HOST[:3306][,HOST...]/DATABASE        mariadb:// is the same
    mysql://[user[:password]@]/DATABASE?socket=/PATH

Parameters: ``table`` (its name, ``cronlock`` unless given; made by ``cronlock doctor --create``), ``ssl``
(``disabled``, ``required``, ``verify_ca`` or ``verify_identity``; the last if there is a ``ca``, else the
first), ``ca``, ``cert``, ``key`` (TLS files), ``socket``. Of several hosts the first that takes writes is
asked.

A skip is one request, a run two: `acquire` and `release`. The rules are in `mysql_sql`, carried out by the
server in the step that takes the key; here stands only how a refusal is read from the row.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...lease.clock import SystemClock
from ...lease.timing import Jumps
from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HOLD, Conflict, Grant, Traits
from ..wire import sql
from ..wire.stream import TLS_PARAMS, Busy, patiently, tls_context
from . import sql as statements
from .servers import Servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from typing import Any

    from ...lease.clock import Clock
    from ...lease.vocabulary import Claim, Ending, Record
    from ..url import URL
    from .link import Row
    from .servers import Place

PORT = 3306
#: Values of ssl=, from the weakest.
SSL_MODES = ("disabled", "required", "verify_ca", "verify_identity")
_LONGEST_NAME = 64
_PAGE = 1000
#: How many columns `LOOK` asks for.
_LOOKED_AT = 11


def open_backend(url: URL, timeout: float) -> MysqlBackend:
    """Return the backend for a URL; raise ConfigError for a bad one."""
    params = url.take_params(("table", "ssl", "socket", *TLS_PARAMS))
    database = url.path[1:]
    if not 0 < len(database) <= _LONGEST_NAME or "\0" in database or "/" in database:
        raise ConfigError(f"{url}: names no database; write {url.scheme}://HOST/DATABASE")
    parts = sql.table_name(url)
    path = params.get("socket")
    if path is None:
        places: list[Place] = [*url.need_hosts(PORT)]
    elif url.hosts or not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{url}: socket= is a path, without a host: {url.scheme}:///DATABASE?socket=/PATH")
    else:
        places = [path]
    tls = _tls(url, params)
    if tls is not None and path is not None:
        raise ConfigError(f"{url}: a Unix socket has no TLS; leave out ssl= and ca=")
    servers = Servers(
        str(url),
        places,
        user=url.user,
        password=url.password or "",
        database=database,
        table=".".join(parts),
        tls=tls,
    )
    return MysqlBackend(servers, timeout)


def _tls(url: URL, params: dict[str, str]) -> ssl.SSLContext | None:
    default = "verify_identity" if "ca" in params else "disabled"
    mode = params.get("ssl", default).lower().replace("-", "_")
    if mode not in SSL_MODES:
        raise ConfigError(f"{url}: ssl={params['ssl']!r}: use one of {', '.join(SSL_MODES)}")
    if mode == "disabled":
        if any(name in params for name in TLS_PARAMS):
            raise ConfigError(f"{url}: ca, cert and key are for TLS; write ssl=required, or verify_identity with a ca")
        return None
    context = tls_context(str(url), params)
    import ssl

    if mode != "verify_identity":
        context.check_hostname = False
        # Certificates that servers make for themselves are not all that the standard asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if mode == "required":
        context.verify_mode = ssl.CERT_NONE
    return context


class MysqlBackend:
    """The rules of leases over a table."""

    def __init__(self, servers: Servers, timeout: float, *, clock: Clock | None = None) -> None:
        self.traits = Traits(fencing=True, shortest_ttl=1.0, longest_ttl=sql.LONGEST_TTL, granularity=0.001)
        self.notices: list[str] = []
        #: The way to the servers, for who looks at these rather than at keys.
        self.servers = servers
        #: The table as statements name it.
        self.table = ".".join(f"`{part}`" for part in servers.table.split("."))
        self._timeout = timeout
        self._clock: Clock = clock or SystemClock()
        self._jumps = Jumps(servers.name)

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `Backend.acquire`. Raises ConfigError for a hold beyond all measure."""
        sql.check(claim)
        deadline, sent = self._deadline(), self._clock.now()
        values: dict[str, str | int | bool | None] = {
            "owner": sql.code(claim.owner),
            "head": sql.head(claim),
            "ttl": _microseconds(claim.ttl),
            "hold": _microseconds(claim.hold),
            "ignore_hold": claim.ignore_hold,
            "floor": sql.floor(claim),
            "doubted": sql.doubted(claim),
            "tick": None if claim.standby_for is None else sql.code(claim.standby_for),
        }
        ask = [self._filled(text, claim.key, **values) for text in (statements.ACQUIRE, statements.LOOK)]
        first = [self._filled(statements.INSERT, claim.key), *ask]

        def look() -> tuple[str, bool, Row | None]:
            answers = self.servers.ask_once(ask, deadline)
            row = _looked(answers[-1][1])
            if row is None:
                why = _judged_without(claim)
                if why != sql.FREE:
                    return why, False, None
                answers = self.servers.ask_once(first, deadline)
                row = _looked(answers[-1][1])
            why = sql.FREE if row is None else _judged(row, claim)
            if why == sql.FREE:
                # Another was faster, by a moment, or something ended between the two statements.
                raise Busy(f"{self.servers.name}: the key changes faster than it can be looked at")
            return why, answers[-2][0] > 0, row

        try:
            why, taken, row = patiently(deadline, look)
            if row is None:
                return sql.conflict(why, 0.0, line=None, fence=None, claim=claim)
            now, fence, lease, hold = row[:4]
            self._see(claim.owner, sent, now)
            line = _str(row[9])
            if why != sql.YOURS:
                remaining = _seconds(lease if why == HELD else hold)
                return sql.conflict(why, remaining, line=line, fence=fence, claim=claim)
            run = sql.run_from_line(line)
            if run is None or run.owner != claim.owner or run.fence is None:
                raise ForeignValue(f"not a run of cronlock: {line!r:.60}")
            previous = sql.previous_from_line(_str(row[10])) if taken else None
        except ForeignValue as error:
            raise self._foreign(claim.key, error) from error
        except (IndexError, TypeError, ValueError) as error:
            raise self._senseless() from error
        return Grant(claim, fence=run.fence, ttl=claim.ttl, previous=previous, took_over=run.took_over)

    def renew(self, grant: Grant) -> bool:
        """Let the lease last `grant.ttl` from now on; False when it is no longer ours."""
        key, owner = grant.claim.key, grant.claim.owner
        sent = self._clock.now()
        text = self._filled(statements.RENEW, key, owner=sql.code(owner), ttl=_microseconds(grant.ttl))
        (changed, _), (_, rows) = self._ask_of_ours([text, statements.TIME])
        try:
            self._see(owner, sent, _whole(rows[0][0]))
        except (IndexError, TypeError, ValueError) as error:
            raise self._senseless() from error
        return changed > 0

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; False when it was not ours."""
        key, owner = grant.claim.key, sql.code(grant.claim.owner)
        ended = self._filled(
            statements.RELEASE,
            key,
            owner=owner,
            end=sql.end(ending),
            success=ending.outcome == "exited" and ending.status == 0,
            undone=sql.is_undone(ending),
            keep_hold=keep_hold,
        )
        deadline = self._deadline()
        ((changed, _),) = self._ask_of_ours([ended], deadline)
        if not changed:
            self._ask_of_ours([self._filled(statements.GO, key, owner=owner)], deadline)
        return changed > 0

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came, and refuse one that comes late."""
        owner = sql.code(claim.owner)
        texts = (statements.GO, statements.GIVE_BACK)
        self._ask_of_ours([self._filled(text, claim.key, owner=owner) for text in texts])

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; False if it was not theirs."""
        deadline = self._deadline()
        for text in (statements.FORCE, statements.FORCE_DEAD):
            ((changed, _),) = self._ask_of_ours([self._filled(text, key, owner=sql.code(owner))], deadline)
            if changed:
                return text is statements.FORCE
        return False

    def read(self, key: str) -> Record | None:
        """Return what is known of the key, changing nothing."""
        ((_, rows),) = self._ask([self._filled(statements.READ, key)])
        try:
            if not rows:
                return None
            run, forced, lease, hold, last, success, history = rows[0]
            return sql.record(
                run=_str(run),
                forced=bool(forced),
                remaining=_seconds(_whole(lease)),
                hold_remaining=_seconds(_whole(hold)),
                last=_str(last),
                history=(_str(history) or "").split("\n"),
                success=_str(success),
            )
        except ForeignValue as error:
            raise self._foreign(key, error) from error
        except (TypeError, ValueError) as error:
            raise self._senseless() from error

    def watch(self, key: str) -> None:
        """Return None: the server tells nothing by itself."""

    def keys(self) -> Iterator[str]:
        """List the keys, a thousand a request; `timeout` limits each of these."""
        last = ""
        while True:
            ((_, rows),) = self._ask([statements.statement(statements.LIST, self.table, last=last, page=_PAGE)])
            for row in rows:
                try:
                    name = _str(row[0]) or ""
                except TypeError as error:
                    raise self._senseless() from error
                if _bytes(name) <= _bytes(last):
                    # It would never come to an end.
                    raise self._senseless()
                last = name
                yield name
            if len(rows) < _PAGE:
                return

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self.servers.close()

    # One request

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _filled(self, text: str, key: str, **values: str | int | bool | None) -> str:
        return statements.statement(text, self.table, name=key, **values)

    def _ask(self, texts: list[str], deadline: float | None = None) -> list[tuple[int, list[Row]]]:
        """Send a request; return for each statement how many rows it changed, and its rows."""
        return self.servers.ask(texts, self._deadline() if deadline is None else deadline)

    def _ask_of_ours(self, texts: list[str], deadline: float | None = None) -> list[tuple[int, list[Row]]]:
        """The same for a run that has, or may have, its lease: it goes on asking though the table is gone.

        Another node of a Galera cluster than the one that granted the lease may be behind, and find nothing of ours
        yet: it is asked again, once it has all that was granted before.
        """
        deadline = self._deadline() if deadline is None else deadline
        try:
            answers = self._ask(texts, deadline)
            if answers[0][0] == 0 and self._ask([statements.GALERA], deadline)[0][1]:
                answers = self._ask([statements.CAUGHT_UP, *texts, statements.AS_BEFORE], deadline)[1:-1]
            return answers
        except ConfigError as error:
            raise BackendUnavailable(str(error)) from error

    def _foreign(self, key: str, error: ForeignValue) -> ForeignValue:
        return ForeignValue(
            f"{self.servers.name}: the row of {key!r} in {self.servers.table}: {error}; nothing was changed"
        )

    def _senseless(self) -> BackendUnavailable:
        self.servers.close()
        return BackendUnavailable(f"{self.servers.name}: the server gave a senseless answer: is it MySQL or MariaDB?")

    def _see(self, owner: str, sent: float, microseconds: int) -> None:
        notice = self._jumps.see(owner, sent, self._clock.now(), _seconds(microseconds))
        if notice is not None:
            self.notices.append(notice)


def _judged(row: Row, claim: Claim) -> str:
    """Return why a row is as it is for `claim`: a conflict's word, YOURS, or FREE if nothing is in the way.

    The same rules as `mysql_sql.ACQUIRE`, a moment later.
    """
    _, fence, lease, hold, forced, is_gone, mine, ended, is_tick, *_ = row
    standing_by = claim.standby_for is not None
    live = lease > 0
    if is_gone or (mine and forced):
        return CANCELLED
    if live and mine:
        return sql.YOURS
    if standing_by and not (is_tick and (live or ended or not forced)):
        return ENDED
    if live:
        return HELD
    if hold > 0 and not (claim.ignore_hold or mine or standing_by):
        return HOLD
    if fence < sql.floor(claim) and sql.doubted(claim):
        return FORGOTTEN
    return sql.FREE


def _judged_without(claim: Claim) -> str:
    """Return the same of a key without a row."""
    if claim.standby_for is not None:
        return ENDED
    return FORGOTTEN if sql.floor(claim) > 0 and sql.doubted(claim) else sql.FREE


def _looked(rows: list[Row]) -> Row | None:
    """Return what `LOOK` found, None for no row; raise TypeError or ValueError for what that is not."""
    if not rows:
        return None
    row = rows[0]
    if len(row) != _LOOKED_AT:
        raise ValueError("a row of another statement")
    return (*map(_whole, row[:4]), *row[4:])


def _whole(value: Any) -> int:
    """Return a column of numbers; raise TypeError or ValueError for what no BIGINT is."""
    if not isinstance(value, int):
        raise TypeError("no whole number")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("no BIGINT")
    return value


def _str(value: Any) -> str | None:
    """Return a column of text; raise TypeError for a number."""
    if value is None or isinstance(value, str):
        return value
    return bytes.decode(value, "utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _seconds(microseconds: int) -> float:
    return microseconds / 1_000_000
