"""What ``cronlock doctor`` looks at on a PostgreSQL server, and the table that it makes."""

from __future__ import annotations

import os
import socket
import ssl
import time

from ... import durations
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, judge_certificate, judge_clock, judge_share, size
from ...doctor.reaching import ANSWER, REACHABLE, connect_all, is_up, show
from ...errors import BackendUnavailable
from ...lease.leases import Leases
from ..wire import sql
from . import sql as statements
from .link import Refused, senseless
from .store import PORT, PostgresqlStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from .link import Row
    from .servers import Servers

_LOOKS = 3
#: Bytes of a table of some thousand keys; more are the dead rows that nobody cleaned up.
_LARGE = 256 << 20
_DENIED = ("42501",)
_THERE_ALREADY = ("42P07", "23505")
# What opens TLS on a server that speaks without it first, and what it says to that.
_TLS_PLEASE, _TLS_YES = b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S"

_TABLE = """
SELECT c.relkind, c.relpersistence, pg_total_relation_size(c.oid), s.n_dead_tup, s.n_live_tup,
  coalesce(array_to_string(c.reloptions, ','), ''), has_table_privilege(c.oid, 'SELECT'),
  has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
  (SELECT string_agg(a.attname, ',') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
    AND NOT a.attisdropped)
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = to_regclass($1)
"""
_SETTINGS = """
SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()),
  current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('default_transaction_isolation'), current_setting('max_connections'), pg_backend_pid(),
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
  (SELECT count(*) FROM pg_stat_replication),
  (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
  current_setting('synchronous_standby_names'), current_user, current_setting('autovacuum')
"""


def create(case: Case) -> Iterator[Finding]:
    """Make the table unless there is one of that name. Raises BackendError when the server does not answer."""
    servers = _servers(case)
    name = f"table {servers.shown_table}"
    if _table(case) is not None:
        yield Finding("create", OK, f"{name} is there already")
        return
    try:
        _ask(case, statements.CREATE, 0)
    except Refused as error:
        if error.code not in _THERE_ALREADY:  # Another doctor was faster.
            remedy = "run this once with the URL of a role that may CREATE in the schema"
            remedy += f", then GRANT {sql.GRANTS}, DELETE ON {servers.shown_table} TO who runs jobs"
            yield Finding("create", BAD, str(error), remedy)
            return
    yield Finding("create", OK, f"made {name}")


def reach(case: Case) -> Iterator[Finding]:
    """Connect, log in, and see that the table is there and may be used."""
    servers = _servers(case)
    case.share_key()
    if case.url.hosts:
        found = list(connect_all(case, PORT, None))
        yield from found
        if not is_up(found):
            return
    try:
        link = servers.link(case.deadline())
    except BackendUnavailable as error:
        text = str(error)
        signs = ("authentication", "password", "pg_hba.conf", "role ", "database ")
        yield Finding("credentials" if any(sign in text for sign in signs) else ANSWER, BAD, text)
        return
    if not case.url.hosts:
        yield Finding(REACHABLE, OK, servers.places[0][0])
    yield from _encryption(case, encrypted=link.encrypted)
    yield from _usable_table(case)


def examine(case: Case) -> Iterator[Finding]:
    """Look at the server. Raises BackendError when it does not answer."""
    yield from _clock(case)
    told = _row(case, _SETTINGS, 14)
    version, uptime, sync, fsync, pages, isolation, most, process, clients, standbys, in_step, names, user, vacuum = (
        value or "" for value in told
    )
    yield Finding("server", OK, f"PostgreSQL {version}, up for {durations.show(round(_number(uptime)))}, user {user}")
    yield from _durability(sync, fsync, pages)
    yield from _replication(sync, int(_number(standbys)), int(_number(in_step)), names)
    if isolation != "read committed":
        text = f"default_transaction_isolation is {isolation}: races are asked again"
        yield Finding("isolation", NOTE, f"{text}; ALTER ROLE ... SET default_transaction_isolation = 'read committed'")
    yield judge_share(
        "clients", _number(clients), _number(most), " connections", "raise max_connections, or use a pooler"
    )
    if str(_servers(case).link(case.deadline()).process) != process:
        text = "a pooler stands before the server, which is all right: each request is one statement"
        yield Finding("pooler", NOTE, text)
    yield from _upkeep(case, vacuum)


def forget(case: Case) -> None:
    """Remove the probe's row, unless another doctor is at it. Raises BackendError where it may not."""
    _ask(case, statements.FORGET, 0, statements.code(case.key))


def _usable_table(case: Case) -> Iterator[Finding]:
    servers = _servers(case)
    shown = servers.shown_table
    try:
        row = _table(case)
    except Refused as error:
        remedy = "GRANT USAGE ON the table's SCHEMA TO the URL's user"
        yield Finding("table", BAD, str(error), remedy if error.code in _DENIED else None)
        return
    if row is None:
        yield Finding("table", BAD, f"there is no table {shown}", "make it: cronlock doctor --create")
        return
    kind, persistence = row[0], row[1]
    missing = [name for name in sql.COLUMNS if name not in (row[10] or "").split(",")]
    if missing or kind not in ("r", "p"):
        text = f"{shown} is not a cronlock table of this layout: it lacks {', '.join(missing) or 'rows'}"
        yield Finding("table", BAD, text, sql.MAKE_ANEW)
        return
    if persistence != "p":
        text = f"{shown} is unlogged: a crash empties it, with the leases in it"
        yield Finding("table", BAD, text, f"ALTER TABLE {shown} SET LOGGED")
        return
    lacks = [name for name, may in zip(("SELECT", "INSERT", "UPDATE"), row[6:9]) if may != "t"]
    if lacks:
        text = f"this user lacks {', '.join(lacks)} on {shown}"
        yield Finding("permissions", BAD, text, f"GRANT {sql.GRANTS} ON {shown} TO the URL's user")
        return
    yield Finding("table", OK, shown)
    if row[9] != "t":
        yield Finding("permissions", NOTE, f"no DELETE on {shown}: the doctors' own row stays")


def _encryption(case: Case, *, encrypted: bool) -> Iterator[Finding]:
    mode = case.url.params.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
    if not case.url.hosts:
        return
    if not encrypted:
        text = "none: who listens in sees jobs and their hosts, and who stands in between can ask for the password"
        yield Finding("encryption", NOTE, f"{text}; sslmode=verify-full wants it")
        return
    if mode not in ("verify-ca", "verify-full"):
        text = f"TLS, but sslmode={mode} takes any server for the right one"
        yield Finding("encryption", NOTE, f"{text}; use sslmode=verify-full and sslrootcert=")
        return
    yield Finding("encryption", OK, f"TLS, sslmode={mode}")
    share = case.timeout / len(case.url.hosts)
    for host, port in case.url.need_hosts(PORT):
        found = _certificate(case, host, port, share)
        if found is not None:
            yield found


def _certificate(case: Case, host: str, port: int, limit: float) -> Finding | None:
    """Judge for how long the certificate is good; None where the server does not show it to us."""
    try:
        context = ssl.create_default_context(cafile=case.url.params.get("sslrootcert"))
        context.check_hostname = False  # libpq has looked at the name.
        with socket.create_connection((host, port), timeout=limit) as plain:
            plain.sendall(_TLS_PLEASE)
            if plain.recv(1) != _TLS_YES:
                return None
            with context.wrap_socket(plain, server_hostname=host) as stream:
                known = stream.getpeercert() or {}
    except (OSError, ValueError):
        return None  # What hinders a run was found before.
    begins, ends = known.get("notBefore"), known.get("notAfter")
    if not isinstance(begins, str) or not isinstance(ends, str):
        return None
    lasting = ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends)
    return judge_certificate(*lasting, time.time(), show(host, port))


def _durability(sync: str, fsync: str, pages: str) -> Iterator[Finding]:
    name = "durability"
    if fsync != "on":
        yield Finding(name, WARNING, "fsync is off: a crash of the machine can lose the database", "set fsync = on")
    elif pages != "on":
        yield Finding(
            name, WARNING, "full_page_writes is off: a crash can damage the table", "set full_page_writes = on"
        )
    if sync == "off":
        remedy = "ALTER ROLE the URL's user SET synchronous_commit = on"
        yield Finding(name, WARNING, "synchronous_commit is off: a crash forgets leases that were just granted", remedy)
    elif fsync == pages == "on":
        yield Finding(name, OK, f"synchronous_commit {sync}")


def _replication(sync: str, standbys: int, in_step: int, names: str) -> Iterator[Finding]:
    name = "standbys"
    if not standbys and not names:
        yield Finding(name, NOTE, "none seen: while this server is down nothing runs")
    elif not names:
        text = f"{standbys}, asynchronous: a failover can forget leases that were just granted"
        yield Finding(name, NOTE, f"{text}; synchronous_standby_names has a grant wait for one of them")
    elif sync in ("off", "local"):
        text = f"synchronous_commit = {sync} does not wait for the standbys of synchronous_standby_names"
        yield Finding(name, WARNING, text, "ALTER ROLE the URL's user SET synchronous_commit = on")
    elif not standbys:
        text = f"synchronous_standby_names is {names[:60]}, and none is connected: grants wait for one"
        yield Finding(name, WARNING, text, "bring the standbys back")
    else:
        # Without pg_monitor their states are not shown.
        yield Finding(name, OK, f"{standbys}, synchronous" + (f" ({in_step} in step)" if in_step else ""))


def _upkeep(case: Case, vacuum: str) -> Iterator[Finding]:
    row = _table(case)
    if row is None:
        return
    used, dead, live = _number(row[2]), _number(row[3]), _number(row[4])
    text = f"{size(used)}, {live:.0f} rows and {dead:.0f} dead ones"
    if vacuum != "on" or "autovacuum_enabled=false" in (row[5] or ""):
        remedy = "turn autovacuum on, for this table at least: each run leaves dead rows"
        yield Finding("upkeep", WARNING, f"autovacuum is off; {text}", remedy)
    elif used > _LARGE and dead > live:
        remedy = f"VACUUM FULL {_servers(case).shown_table}; see what holds autovacuum back, such as an old transaction"
        yield Finding("upkeep", WARNING, text, remedy)
    else:
        yield Finding("upkeep", OK, text)


def _clock(case: Case) -> Iterator[Finding]:
    best: tuple[float, float] | None = None
    for _ in range(_LOOKS):
        before, started = time.time(), time.monotonic()
        (seconds,) = _row(case, "SELECT extract(epoch FROM clock_timestamp())", 1)
        took = time.monotonic() - started
        offset = _number(seconds) - (before + took / 2)
        if best is None or took / 2 < best[1]:
            best = offset, took / 2
    assert best is not None
    yield judge_clock(*best, case.hold)


def _table(case: Case) -> Row | None:
    rows = _ask(case, _TABLE, 11, _servers(case).table)
    return rows[0] if rows else None


def _row(case: Case, statement: str, width: int) -> Row:
    """Return the one row of an answer; raise as `_ask` does, also if it is none."""
    rows = _ask(case, statement, width)
    if len(rows) != 1:
        raise senseless(_servers(case).name)
    return rows[0]


def _ask(case: Case, statement: str, width: int, *values: str) -> list[Row]:
    """Return the rows of a statement, of `width` columns each.

    Raises Refused for the server's own errors, and BackendUnavailable.
    """
    servers = _servers(case)
    deadline = case.deadline()
    try:
        return servers.link(deadline).ask(statements.statement(statement, servers.table), values, width, deadline)
    except Refused:
        raise
    except BackendUnavailable:
        servers.close()
        raise


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _servers(case: Case) -> Servers:
    assert isinstance(case.backend, Leases)
    assert isinstance(case.backend.store, PostgresqlStore)
    return case.backend.store.servers
