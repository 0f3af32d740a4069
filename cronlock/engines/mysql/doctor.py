"""What ``cronlock doctor`` looks at on a server of MySQL or MariaDB, and the table that it makes."""

from __future__ import annotations

import ssl
import time

from ... import durations
from ...doctor.findings import BAD, NOTE, OK, WARNING, Finding, judge_certificate, judge_clock, judge_share, size
from ...doctor.reaching import ANSWER, REACHABLE, connect_all, is_up, show
from ...errors import BackendUnavailable, ConfigError
from ...lease.leases import Leases
from ..wire import sql
from . import sql as statements
from .link import Link, Refused
from .store import PORT, SSL_MODES, MysqlStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...doctor.probe import Case
    from .link import Row

_LOOKS = 3
_OLDEST = {"MySQL": (5, 7), "MariaDB": (10, 3)}
_DENIED = (1044, 1142, 1227)
# What lets a user write to a server that is read-only.
_ABOVE_READ_ONLY = ("ALL PRIVILEGES ON *.*", " SUPER", "READ_ONLY ADMIN", "READ ONLY ADMIN", "CONNECTION_ADMIN")
_VARIABLES = (
    *("innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "read_only", "innodb_doublewrite"),
    *("max_connections", "wsrep_on", "group_replication_group_name", "group_replication_single_primary_mode"),
    *("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled"),
)
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
    """Make the table unless there is one of that name. Raises BackendError when the server does not answer."""
    store = _store(case)
    name = f"table {store.servers.table}"
    try:
        if _rows(case, _TABLE):
            yield Finding("create", OK, f"{name} is there already")
            return
        _query(case, statements.statement(statements.CREATE, store.quoted_table))
    except ConfigError as error:
        yield Finding("create", BAD, str(error))
        return
    except Refused as error:
        remedy = "run this once with the URL of a user who may CREATE in the database"
        remedy += f", then GRANT {sql.GRANTS}, DELETE ON {store.servers.table} TO who runs jobs"
        yield Finding("create", BAD, str(error), remedy if error.code in _DENIED else None)
        return
    yield Finding("create", OK, f"made {name}")


def reach(case: Case) -> Iterator[Finding]:
    """Connect, log in, and see that the table is there and may be used."""
    store = _store(case)
    case.share_key()
    if case.url.hosts:
        found = list(connect_all(case, PORT, None))
        yield from found
        if not is_up(found):
            return
    if len(store.servers.places) > 1:
        yield from _several(case)
    try:
        link = store.servers.link(case.deadline())
    except (BackendUnavailable, ConfigError) as error:
        text = str(error)
        denied = any(sign in text for sign in ("Access denied", "authentication failed", "atabase", "password"))
        yield Finding("credentials" if denied else ANSWER, BAD, text)
        return
    if not case.url.hosts:
        yield Finding(REACHABLE, OK, case.url.params["socket"])
    yield from _encryption(case, link)
    yield from _usable_table(case)


def examine(case: Case) -> Iterator[Finding]:
    """Look at the server. Raises BackendError when it does not answer."""
    yield from _clock(case)
    told = {**_told(case, "VARIABLES", _VARIABLES), **_told(case, "STATUS", _STATUS)}
    yield _version(case, told)
    yield from _durability(told)
    yield from _replication(told)
    yield from _rights(case)
    used, most = _number(told.get("threads_connected")), _number(told.get("max_connections"))
    if most:
        remedy = "raise max_connections, or put a pooler before it: each running job keeps one"
        yield judge_share("clients", used, most, " connections", remedy)
    rows = _rows(case, _TABLE)
    if rows:
        yield Finding("size", OK, f"{size(_number(rows[0][2]))} in {shown_table(case)}")


def forget(case: Case) -> Finding | None:
    """Remove the probe's row, unless another doctor is at it; or say that it stays."""
    try:
        _query(case, statements.statement(statements.FORGET, _store(case).quoted_table, name=case.key))
    except Refused as error:
        if error.code not in _DENIED:
            raise
        return Finding("permissions", NOTE, f"no DELETE on {shown_table(case)}: the doctors' own row stays")
    return None


def shown_table(case: Case) -> str:
    """Return the table's name for people."""
    return _store(case).servers.table


def _several(case: Case) -> Iterator[Finding]:
    """Look at which servers take writes: two that know nothing of each other would both grant a key."""
    store = _store(case)
    takes_writes = []
    for place in store.servers.places:
        shown = place if isinstance(place, str) else show(*place)
        try:
            link = store.servers.log_in(place, time.monotonic() + case.timeout / len(store.servers.places))
        except BackendUnavailable as error:
            yield Finding(ANSWER, NOTE, f"{shown}: {error}")
            continue
        try:
            link.limit(case.deadline())
            text = (
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'wsrep_on', 'group_replication_group_name')"
            )
            ((_, rows),) = link.ask([text])
            told = {_plain(row[0]).lower(): _plain(row[1]) for row in rows}
            if told.get("read_only", "OFF").upper() == "OFF":
                takes_writes.append((shown, _is_group(told)))
            else:
                yield Finding("read-only", NOTE, f"{shown} is, and passed over until it is not")
        except BackendUnavailable as error:
            yield Finding(ANSWER, NOTE, f"{shown}: {error}")
        finally:
            link.close()
    if len(takes_writes) > 1:
        names = " and ".join(name for name, _ in takes_writes)
        if all(group for _, group in takes_writes):
            text = f"{names} take writes: leases are judged by the clock of the one that is asked"
            yield Finding("read-only", NOTE, f"{text}; write them in the same order everywhere, and keep clocks by NTP")
        else:
            text = f"{names} take writes, and are not one cluster: each grants what the other has granted"
            yield Finding("read-only", BAD, text, "set read_only on all but one")


def _usable_table(case: Case) -> Iterator[Finding]:
    shown = shown_table(case)
    rows, columns = _rows(case, _TABLE), _rows(case, _COLUMNS)
    if not rows:
        text = f"there is no table {shown} that this user may see"
        yield Finding("table", BAD, text, "make it: cronlock doctor --create")
        return
    engine, row_format = _plain(rows[0][0]), _plain(rows[0][1])
    kinds = {_plain(row[0]).lower(): _plain(row[1]).lower() for row in columns}
    missing = [name for name in sql.COLUMNS if name not in kinds]
    if missing or not engine:
        text = f"{shown} is not a cronlock table of this layout: it lacks {', '.join(missing) or 'rows'}"
        yield Finding("table", BAD, text, sql.MAKE_ANEW)
        return
    if engine.lower() != "innodb":
        text = f"{shown} is kept by {engine}, which keeps no promise through a crash"
        yield Finding("table", BAD, text, f"ALTER TABLE {shown} ENGINE=InnoDB")
        return
    texts = [
        name for name, kind in kinds.items() if name in sql.COLUMNS and not kind.endswith(("blob", "binary", "int"))
    ]
    if texts:
        text = f"{shown}: {', '.join(texts[:4])} would have a collation, which takes some keys for each other"
        yield Finding("table", BAD, text, "drop the table while no job runs, and: cronlock doctor --create")
        return
    may = {word.strip() for row in columns for word in _plain(row[2]).lower().split(",")}
    lacks = [word for word in ("SELECT", "INSERT", "UPDATE") if word.lower() not in may]
    if lacks:
        text = f"this user lacks {', '.join(lacks)} on {shown}"
        yield Finding("permissions", BAD, text, f"GRANT {sql.GRANTS} ON {shown} TO the URL's user")
        return
    yield Finding("table", OK, f"{shown} ({engine}, {row_format})")


def _encryption(case: Case, link: Link) -> Iterator[Finding]:
    if not case.url.hosts:
        return
    mode = case.url.params.get("ssl", "verify_identity" if "ca" in case.url.params else SSL_MODES[0])
    mode = mode.lower().replace("-", "_")
    if mode == "disabled":
        text = "none: who listens in sees jobs and their hosts"
        yield Finding("encryption", NOTE, f"{text}; ca= (or ssl=required) wants it")
        return
    if mode != "verify_identity":
        yield Finding("encryption", NOTE, f"TLS, but ssl={mode} takes other servers for the right one; use ca=")
    else:
        yield Finding("encryption", OK, f"TLS, ssl={mode}")
    begins, ends = link.certificate.get("notBefore"), link.certificate.get("notAfter")
    if isinstance(begins, str) and isinstance(ends, str):
        lasting = ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends)
        yield judge_certificate(*lasting, time.time(), str(case.url))


def _version(case: Case, told: dict[str, str]) -> Finding:
    ((version, user),) = _query(case, "SELECT VERSION(), CURRENT_USER()")
    text = _plain(version)
    kind = "MariaDB" if "mariadb" in text.lower() else "MySQL"
    digits = text.partition("-")[0].split(".")
    shown = f"{kind} {text}, up for {durations.show(round(_number(told.get('uptime'))))}, user {_plain(user)}"
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in digits[:2]):
        return Finding("server", NOTE, f"cannot tell the version of {shown}")
    if tuple(int(part) for part in digits[:2]) < _OLDEST[kind]:
        oldest = ".".join(str(number) for number in _OLDEST[kind])
        return Finding("server", BAD, shown, f"cronlock needs {kind} {oldest} or later")
    return Finding("server", OK, shown)


def _durability(told: dict[str, str]) -> Iterator[Finding]:
    name = "durability"
    flush, binlog = told.get("innodb_flush_log_at_trx_commit"), told.get("sync_binlog", "1")
    if flush is None:
        yield Finding(name, NOTE, "cannot tell: the server does not show its settings")
        return
    good = True
    if flush != "1":
        good = False
        text = f"innodb_flush_log_at_trx_commit is {flush}: a crash forgets leases that were just granted"
        yield Finding(name, WARNING, text, "set it to 1")
    if told.get("log_bin", "OFF") == "ON" and binlog != "1":
        good = False
        text = f"sync_binlog is {binlog}: after a crash replicas may lack, or alone have, what was just granted"
        yield Finding(name, WARNING, text, "set it to 1")
    if told.get("innodb_doublewrite", "ON") == "OFF":
        good = False
        yield Finding(name, WARNING, "innodb_doublewrite is off: a crash can damage the table", "turn it on")
    if good:
        yield Finding(name, OK, "innodb_flush_log_at_trx_commit 1")


def _replication(told: dict[str, str]) -> Iterator[Finding]:
    name = "replication"
    if told.get("read_only", "OFF") != "OFF":
        yield Finding("read-only", BAD, "this server is read-only: a replica?", "name the server that takes writes")
    semi = next((word for word in ("master", "source") if told.get(f"rpl_semi_sync_{word}_enabled") == "ON"), None)
    if told.get("wsrep_on") == "ON":
        nodes, status = told.get("wsrep_cluster_size", "?"), told.get("wsrep_cluster_status", "?")
        text = f"Galera, {nodes} nodes, {status}: leases are judged by the clock of the node that is asked"
        yield Finding(name, NOTE, f"{text}; name one node first everywhere, and keep clocks by NTP")
    elif told.get("group_replication_group_name"):
        if told.get("group_replication_single_primary_mode", "ON") == "ON":
            yield Finding(name, NOTE, "Group Replication with one primary: the clock of a new primary decides then")
        else:
            text = "Group Replication with several primaries: leases are judged by the clock of the one that is asked"
            yield Finding(name, NOTE, f"{text}; name one first everywhere, and keep clocks by NTP")
    elif semi is not None:
        clients = told.get(f"rpl_semi_sync_{semi}_clients", "0")
        text = f"semi-synchronous, to {clients}: a grant waits for one of them, but not beyond its time-out"
        yield Finding(
            name, OK if _number(clients) else WARNING, text, None if _number(clients) else "bring replicas back"
        )
    elif told.get("log_bin") == "ON":
        text = "if this server has replicas, they are asynchronous: a failover can forget leases that were just granted"
        yield Finding(name, NOTE, f"{text}; semi-synchronous replication has a grant wait for one of them")
    else:
        yield Finding(name, NOTE, "none (no binary log): while this server is down nothing runs")


def _rights(case: Case) -> Iterator[Finding]:
    """Whether this user's writes would be taken by a replica."""
    try:
        rows = _query(case, "SHOW GRANTS")
    except Refused:
        return
    granted = [_plain(row[0]).upper() for row in rows]
    if any(sign in line for line in granted for sign in _ABOVE_READ_ONLY):
        text = "this user may write to a read-only server, so that a replica would grant what its primary has granted"
        remedy = f"give jobs a user of their own: GRANT {sql.GRANTS} ON {shown_table(case)} is enough"
        yield Finding("permissions", WARNING, text, remedy)


def _clock(case: Case) -> Iterator[Finding]:
    best: tuple[float, float] | None = None
    for _ in range(_LOOKS):
        before, started = time.time(), time.monotonic()
        ((microseconds,),) = _query(case, f"SELECT {statements.TIME}")
        took = time.monotonic() - started
        offset = _number(microseconds) / 1e6 - (before + took / 2)
        if best is None or took / 2 < best[1]:
            best = offset, took / 2
    assert best is not None
    yield judge_clock(*best, case.hold)


def _told(case: Case, what: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return variables or states of the server, by their names in small letters."""
    listed = ", ".join(f"'{name}'" for name in names)
    rows = _query(case, f"SHOW GLOBAL {what} WHERE Variable_name IN ({listed})")
    return {_plain(row[0]).lower(): _plain(row[1]) for row in rows}


def _rows(case: Case, text: str) -> list[Row]:
    store = _store(case)
    *schema, table = store.servers.table.split(".")
    filled = statements.statement(text, store.quoted_table, schema=schema[0] if schema else None, called=table)
    return _query(case, filled)


def _query(case: Case, text: str) -> list[Row]:
    return _store(case).servers.query(text, case.deadline())


def _is_group(told: dict[str, str]) -> bool:
    return told.get("wsrep_on") == "ON" or bool(told.get("group_replication_group_name"))


def _plain(value: object) -> str:
    """Return what a server says of itself, bounded and printable."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value if value is not None else "")
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _number(value: object) -> float:
    try:
        return float(str(value or 0))
    except ValueError:
        return 0.0


def _store(case: Case) -> MysqlStore:
    assert isinstance(case.backend, Leases)
    assert isinstance(case.backend.store, MysqlStore)
    return case.backend.store
