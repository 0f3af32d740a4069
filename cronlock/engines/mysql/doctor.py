"""The checks of ``cronlock doctor`` on MySQL or MariaDB, and the table that it makes."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING

from ... import durations
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, decide, judge_share, number, plain, size
from ..wire import sql, sql_doctor
from ..wire.doctor import ANSWER, ask_each, connect_all, judge_peer, look_at_clock
from ..wire.sql import Refused
from ..wire.sql_doctor import CREATE, judge_table, log_in
from . import sql as statements
from .connection import Connection
from .store import DENIED, PORT, SSL_MODES, MysqlStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from .connection import Row

_OLDEST = {"MySQL": (5, 7), "MariaDB": (10, 3)}
_ABOUT_USERS = ("Access denied", "authentication failed", "atabase", "password")
# Privileges that let a user write to a read-only server.
_ABOVE_READ_ONLY = ("ALL PRIVILEGES ON *.*", " SUPER", "READ_ONLY ADMIN", "READ ONLY ADMIN", "CONNECTION_ADMIN")
_VARIABLES = (
    *("innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "read_only", "innodb_doublewrite"),
    *("max_connections", "wsrep_on", "group_replication_group_name", "group_replication_single_primary_mode"),
    *("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled"),
)
_WRITES = ("read_only", "wsrep_on", "group_replication_group_name")
_STATUS = (
    *("Uptime", "Threads_connected", "wsrep_cluster_size", "wsrep_cluster_status"),
    *("Rpl_semi_sync_master_clients", "Rpl_semi_sync_source_clients"),
)
_SCHEMA = "COALESCE({schema}, DATABASE())"
_TABLE = (
    "SELECT engine, row_format, COALESCE(data_length, 0) + COALESCE(index_length, 0), table_type"
    " FROM information_schema.tables WHERE table_schema = " + _SCHEMA + " AND table_name = {called}"
)
_COLUMNS = (
    "SELECT column_name, data_type, privileges"
    " FROM information_schema.columns WHERE table_schema = " + _SCHEMA + " AND table_name = {called}"
)


def create(case: Case) -> Iterator[Finding]:
    """Make the table unless there is one of that name. Raises ConfigError without a database, and BackendError."""
    store = case.store(MysqlStore)
    text = statements.statement(statements.CREATE, store.quoted_table)
    who = "a user who may CREATE in the database"
    yield sql_doctor.create(store.table, lambda: _rows(case, _TABLE), lambda: _query(case, text), who, DENIED)


def reach(case: Case) -> Iterator[Finding]:
    """Connect, log in, and see that the table is there and may be used."""
    servers = case.store(MysqlStore).servers
    case.share_key()
    if case.url.hosts and not (yield from connect_all(case, PORT)):
        return
    if len(servers.addresses) > 1:
        yield from _several(case)
    connection = yield from log_in(case, servers.connection, _ABOUT_USERS, case.url.params.get("socket", ""))
    if connection is not None:
        yield from _encryption(case, connection)
        yield _usable_table(case)


def examine(case: Case) -> Iterator[Finding]:
    """Look at the server. Raises BackendError when it does not answer."""
    store = case.store(MysqlStore)
    yield look_at_clock(case, lambda: store.read(case.key, case.deadline()).time or 0.0)
    settings = {**_global(case, "VARIABLES", _VARIABLES), **_global(case, "STATUS", _STATUS)}
    yield _version(case, settings)
    yield from _durability(settings)
    yield from _replication(settings)
    yield from _rights(case)
    used, most = number(settings.get("threads_connected")), number(settings.get("max_connections"))
    if most:
        remedy = "raise max_connections, or put a pooler before it: each running job keeps one"
        yield judge_share("clients", used, most, " connections", remedy)
    rows = _rows(case, _TABLE)
    if rows:
        yield Finding("size", OK, f"{size(number(plain(rows[0][2])))} in {store.table}")


def _several(case: Case) -> Iterator[Finding]:
    """Look at which servers take writes: two that know nothing of each other would both grant a key."""
    servers = case.store(MysqlStore).servers

    def ask(address: tuple[str, int] | str) -> dict[str, str]:
        share = case.timeout / len(servers.addresses)
        with closing(servers.log_in(address, time.monotonic() + share)) as connection:
            connection.limit(case.deadline())
            ((_, rows),) = connection.ask([_show_global("VARIABLES", _WRITES)])
        return _by_name(rows)

    answers, failures = ask_each(servers.addresses, ask)
    yield from (Finding(ANSWER, NOTE, failure) for failure in failures)
    takes_writes = {}
    for shown, settings in answers.items():
        if settings.get("read_only", "OFF").upper() == "OFF":
            takes_writes[shown] = settings.get("wsrep_on") == "ON" or bool(settings.get("group_replication_group_name"))
        else:
            yield Finding("read-only", NOTE, f"{shown} is read-only, and skipped until it is not")
    names = " and ".join(takes_writes)
    if len(takes_writes) > 1 and all(takes_writes.values()):
        text = f"{names} take writes: leases are judged by the clock of the one that is asked"
        yield Finding(
            "read-only", NOTE, f"{text}; write them in the same order everywhere, and synchronize clocks by NTP"
        )
    elif len(takes_writes) > 1:
        text = f"{names} take writes, and are not one cluster: each grants what the other has granted"
        yield Finding("read-only", BAD, text, "set read_only on all but one")


def _usable_table(case: Case) -> Finding:
    shown = case.store(MysqlStore).table
    rows, columns = _rows(case, _TABLE), _rows(case, _COLUMNS)
    if not rows:
        return Finding("table", BAD, f"there is no table {shown} that this user may see", CREATE)
    engine, row_format = plain(rows[0][0]), plain(rows[0][1])
    kinds = {plain(row[0]).lower(): plain(row[1]).lower() for row in columns}
    texts = [
        name for name, kind in kinds.items() if name in sql.COLUMNS and not kind.endswith(("blob", "binary", "int"))
    ]
    collated = f": a collation on {', '.join(texts[:4])} makes different keys equal"
    may = {word.strip() for row in columns for word in plain(row[2]).lower().split(",")}
    unsafe = f" uses {engine}, which is not crash-safe"
    return judge_table(
        shown,
        kinds,
        [word for word in ("SELECT", "INSERT", "UPDATE") if word.lower() not in may],
        (engine.lower() != "innodb", unsafe, f"ALTER TABLE {shown} ENGINE=InnoDB"),
        (texts, collated, "drop the table while no job runs, and: cronlock doctor --create"),
        is_table=bool(engine),
        kept=f" ({engine}, {row_format})",
    )


def _encryption(case: Case, connection: Connection) -> Iterator[Finding]:
    if not case.url.hosts:
        return
    mode = case.url.params.get("ssl", "verify_identity" if "ca" in case.url.params else SSL_MODES[0])
    mode = mode.lower().replace("-", "_")
    listeners = "none: eavesdroppers see jobs and their hosts; ca= (or ssl=required) enables TLS"
    any_server = f"TLS, but ssl={mode} accepts any server; use ca="
    yield decide(
        "encryption",
        (mode == "disabled", NOTE, listeners, None),
        (mode != "verify_identity", NOTE, any_server, None),
        (True, OK, f"TLS, ssl={mode}", None),
    )
    if connection.certificate:
        yield judge_peer(str(case.url), connection.certificate)


def _version(case: Case, settings: dict[str, str]) -> Finding:
    ((version, user),) = _query(case, "SELECT VERSION(), CURRENT_USER()")
    text = plain(version)
    kind = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    shown = f"{kind} {text}, up for {durations.show(round(number(settings.get('uptime'))))}, user {plain(user)}"
    known = re.match(r"([0-9]{1,5})\.([0-9]{1,5})", text)
    found = (int(known[1]), int(known[2])) if known else (0, 0)
    oldest = ".".join(map(str, _OLDEST[kind]))
    return decide(
        "server",
        (not known, NOTE, f"cannot tell the version of {shown}", None),
        (found < _OLDEST[kind], BAD, shown, f"cronlock needs {kind} {oldest} or later"),
        (True, OK, shown, None),
    )


def _durability(settings: dict[str, str]) -> list[Finding]:
    name = "durability"
    flush, binlog = settings.get("innodb_flush_log_at_trx_commit"), settings.get("sync_binlog", "1")
    if flush is None:
        return [Finding(name, NOTE, "cannot tell: the server does not show its settings")]
    wrong = []
    if flush != "1":
        text = f"innodb_flush_log_at_trx_commit is {flush}: a crash loses leases that were just granted"
        wrong.append(Finding(name, WARNING, text, "set it to 1"))
    if settings.get("log_bin", "OFF") == "ON" and binlog != "1":
        text = f"sync_binlog is {binlog}: after a crash replicas may lack, or alone have, what was just granted"
        wrong.append(Finding(name, WARNING, text, "set it to 1"))
    if settings.get("innodb_doublewrite", "ON") == "OFF":
        wrong.append(Finding(name, WARNING, "innodb_doublewrite is off: a crash can damage the table", "turn it on"))
    return wrong or [Finding(name, OK, "innodb_flush_log_at_trx_commit 1")]


def _replication(settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("read_only", "OFF") != "OFF":
        yield Finding("read-only", BAD, "this server is read-only: a replica?", "name the server that takes writes")
    semi = next((word for word in ("master", "source") if settings.get(f"rpl_semi_sync_{word}_enabled") == "ON"), None)
    clients = settings.get(f"rpl_semi_sync_{semi}_clients", "0")
    group = settings.get("group_replication_group_name")
    one_primary = group and settings.get("group_replication_single_primary_mode", "ON") == "ON"
    galera = f"Galera, {settings.get('wsrep_cluster_size', '?')} nodes, {settings.get('wsrep_cluster_status', '?')}"
    several = "leases are judged by the clock of the one that is asked"
    several += "; name one first everywhere, and synchronize clocks by NTP"
    waits = f"semi-synchronous, to {clients}: a grant waits for one of them, but not beyond its time-out"
    lags = "if this server has replicas, they are asynchronous: a failover can lose leases that were just granted"
    waiting = "semi-synchronous replication has a grant wait for one of them"
    yield decide(
        "replication",
        (settings.get("wsrep_on") == "ON", NOTE, f"{galera}: {several}", None),
        (one_primary, NOTE, "Group Replication with one primary: the clock of a new primary decides then", None),
        (group, NOTE, f"Group Replication with several primaries: {several}", None),
        (semi and number(clients), OK, waits, None),
        (semi, WARNING, waits, "bring replicas back"),
        (settings.get("log_bin") == "ON", NOTE, f"{lags}; {waiting}", None),
        (True, NOTE, "none (no binary log): while this server is down nothing runs", None),
    )


def _rights(case: Case) -> Iterator[Finding]:
    """Whether this user's writes would be taken by a replica."""
    try:
        rows = _query(case, "SHOW GRANTS")
    except Refused:
        return
    granted = [plain(row[0]).upper() for row in rows]
    if any(sign in line for line in granted for sign in _ABOVE_READ_ONLY):
        text = "this user may write to a read-only server, so that a replica would grant what its primary has granted"
        remedy = f"give jobs a user of their own: GRANT {sql.GRANTS} ON {case.store(MysqlStore).table} is enough"
        yield Finding("permissions", WARNING, text, remedy)


def _global(case: Case, what: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return variables or states of the server, by their names in small letters."""
    return _by_name(_query(case, _show_global(what, names)))


def _show_global(what: str, names: tuple[str, ...]) -> str:
    # A tuple of several words looks in Python as it does in SQL.
    return f"SHOW GLOBAL {what} WHERE Variable_name IN {names}"


def _by_name(rows: list[Row]) -> dict[str, str]:
    return {plain(row[0]).lower(): plain(row[1]) for row in rows}


def _rows(case: Case, text: str) -> list[Row]:
    store = case.store(MysqlStore)
    *schema, table = store.table.split(".")
    filled = statements.statement(text, store.quoted_table, schema=schema[0] if schema else None, called=table)
    return _query(case, filled)


def _query(case: Case, text: str) -> list[Row]:
    return case.store(MysqlStore).servers.query(text, case.deadline())
