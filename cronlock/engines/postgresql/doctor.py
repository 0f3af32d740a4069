"""The checks of ``cronlock doctor`` on PostgreSQL, and the table that it makes."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from ... import durations
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, decide, judge_share, number, size
from ..wire import sql_doctor
from ..wire.doctor import certificate, connect_all, look_at_clock
from ..wire.sql import Refused
from ..wire.sql_doctor import CREATE, judge_table, log_in
from ..wire.stream import protocol_error
from . import sql as statements
from .messages import PRODUCT
from .store import DENIED, PORT, PostgresqlStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from .messages import Row

#: Bytes of a table of some thousand keys; more are dead rows that were not vacuumed.
_LARGE = 256 << 20
_ALREADY_EXISTS = ("42P07", "23505")
_LOGIN_ERRORS = ("authentication", "password", "pg_hba.conf", "role ", "database ")
# The request for TLS on a plain connection (SSLRequest), and the server's consent.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S"

_TABLE = """
SELECT c.relkind, c.relpersistence, pg_total_relation_size(c.oid), s.n_dead_tup, s.n_live_tup,
  coalesce(array_to_string(c.reloptions, ','), ''), has_table_privilege(c.oid, 'SELECT'),
  has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'),
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
    store = case.store(PostgresqlStore)
    make, who = partial(_ask, case, statements.CREATE, 0), "a role that may CREATE in the schema"
    yield sql_doctor.create(store.table, lambda: _table(case), make, who, (DENIED,), _ALREADY_EXISTS)


def reach(case: Case) -> Iterator[Finding]:
    """Connect, log in, and check the table and the privileges on it."""
    servers = case.store(PostgresqlStore).servers
    case.share_key()
    if case.url.hosts and not (yield from connect_all(case, PORT)):
        return
    connection = yield from log_in(case, servers.connection, _LOGIN_ERRORS, servers.addresses[0][0])
    if connection is not None:
        yield from _encryption(case, encrypted=connection.encrypted)
        yield _usable_table(case)


def examine(case: Case) -> Iterator[Finding]:
    """Check the server. Raises BackendError when it does not answer."""
    store = case.store(PostgresqlStore)
    yield look_at_clock(case, lambda: store.read(case.key, case.deadline()).time or 0.0)
    row = _row(case, _SETTINGS, 14)
    version, uptime, sync, fsync, pages, isolation, most, process, clients, standbys, in_step, names, user, vacuum = (
        value or "" for value in row
    )
    yield Finding("server", OK, f"PostgreSQL {version}, up for {durations.show(round(number(uptime)))}, user {user}")
    yield from _durability(sync, fsync, pages)
    yield _replication(sync, number(standbys), number(in_step), names)
    if isolation != "read committed":
        text = f"default_transaction_isolation is {isolation}: conflicting swaps are repeated"
        yield Finding("isolation", NOTE, f"{text}; ALTER ROLE ... SET default_transaction_isolation = 'read committed'")
    remedy = "raise max_connections, or use a pooler"
    yield judge_share("clients", number(clients), number(most), " connections", remedy)
    if str(store.servers.connection(case.deadline()).process) != process:
        text = "a pooler is in front of the server, which is fine: each request is one statement"
        yield Finding("pooler", NOTE, text)
    yield from _upkeep(case, vacuum)


def _usable_table(case: Case) -> Finding:
    shown = case.store(PostgresqlStore).table
    try:
        row = _table(case)
    except Refused as error:
        remedy = "GRANT USAGE ON the table's SCHEMA TO the URL's user"
        return Finding("table", BAD, str(error), remedy if error.code == DENIED else None)
    if row is None:
        return Finding("table", BAD, f"there is no table {shown}", CREATE)
    unlogged = " is unlogged: a crash empties it, with the leases in it"
    return judge_table(
        shown,
        (row[9] or "").split(","),
        [name for name, may in zip(("SELECT", "INSERT", "UPDATE"), row[6:9]) if may != "t"],
        (row[1] != "p", unlogged, f"ALTER TABLE {shown} SET LOGGED"),
        is_table=row[0] in ("r", "p"),
    )


def _encryption(case: Case, *, encrypted: bool) -> Iterator[Finding]:
    mode = case.url.params.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
    if not case.url.hosts:
        return
    if not encrypted:
        text = "none: eavesdroppers see jobs and their hosts, and a man in the middle can request the password"
        yield Finding("encryption", NOTE, f"{text}; use sslmode=verify-full")
        return
    if mode not in ("verify-ca", "verify-full"):
        text = f"TLS, but sslmode={mode} accepts any server"
        yield Finding("encryption", NOTE, f"{text}; use sslmode=verify-full and sslrootcert=")
        return
    yield Finding("encryption", OK, f"TLS, sslmode={mode}")
    import ssl  # Not every Python has it.

    try:
        context = ssl.create_default_context(cafile=case.url.params.get("sslrootcert"))
    except (OSError, ValueError):
        return  # "system", or a file that libpq could read.
    context.check_hostname = False  # libpq has checked the name.
    for address in case.url.need_hosts(PORT):
        found = certificate(address, context, case.timeout / len(case.url.hosts), _SSL_REQUEST)
        if found.level in (OK, WARNING):  # A fault that stops runs was found before.
            yield found


def _durability(sync: str, fsync: str, pages: str) -> Iterator[Finding]:
    name = "durability"
    if fsync != "on":
        yield Finding(name, WARNING, "fsync is off: a crash of the machine can lose the database", "set fsync = on")
    elif pages != "on":
        text = "full_page_writes is off: a crash can damage the table"
        yield Finding(name, WARNING, text, "set full_page_writes = on")
    if sync == "off":
        remedy = "ALTER ROLE the URL's user SET synchronous_commit = on"
        yield Finding(name, WARNING, "synchronous_commit is off: a crash loses leases that were just granted", remedy)
    elif fsync == pages == "on":
        yield Finding(name, OK, f"synchronous_commit {sync}")


def _replication(sync: str, standbys: float, in_step: float, names: str) -> Finding:
    asynchronous = f"{standbys:.0f}, asynchronous: a failover can lose leases that were just granted"
    no_wait = f"synchronous_commit = {sync} does not wait for the standbys of synchronous_standby_names"
    nobody = f"synchronous_standby_names is {names[:60]}, and none is connected: grants wait for one"
    # Without pg_monitor their states are not shown.
    good = f"{standbys:.0f}, synchronous" + (f" ({in_step:.0f} in step)" if in_step else "")
    return decide(
        "standbys",
        (not standbys and not names, NOTE, "none seen: while this server is down nothing runs", None),
        (not names, NOTE, f"{asynchronous}; synchronous_standby_names has a grant wait for one of them", None),
        (sync in ("off", "local"), WARNING, no_wait, "ALTER ROLE the URL's user SET synchronous_commit = on"),
        (not standbys, WARNING, nobody, "bring the standbys back"),
        (True, OK, good, None),
    )


def _upkeep(case: Case, vacuum: str) -> Iterator[Finding]:
    row = _table(case)
    if row is None:
        return
    used, dead, live = number(row[2]), number(row[3]), number(row[4])
    text = f"{size(used)}, {live:.0f} rows and {dead:.0f} dead ones"
    if vacuum != "on" or "autovacuum_enabled=false" in (row[5] or ""):
        remedy = "turn autovacuum on, for this table at least: each run leaves dead rows"
        yield Finding("upkeep", WARNING, f"autovacuum is off; {text}", remedy)
    elif used > _LARGE and dead > live:
        remedy = f"VACUUM FULL {case.store(PostgresqlStore).table}"
        remedy += "; see what holds autovacuum back, such as an old transaction"
        yield Finding("upkeep", WARNING, text, remedy)
    else:
        yield Finding("upkeep", OK, text)


def _table(case: Case) -> Row | None:
    rows = _ask(case, _TABLE, 10, case.store(PostgresqlStore).servers.table)
    return rows[0] if rows else None


def _row(case: Case, statement: str, width: int) -> Row:
    """Return the only row of a reply; raise like `_ask`, also for another number of rows."""
    rows = _ask(case, statement, width)
    if len(rows) != 1:
        raise protocol_error(case.store(PostgresqlStore).name, PRODUCT)
    return rows[0]


def _ask(case: Case, statement: str, width: int, *values: str) -> list[Row]:
    return case.store(PostgresqlStore).servers.query(statement, values, width, case.deadline())
