"""The statements for MySQL and MariaDB, over the table of `cronlock.engines.wire.sql`.

`statement` replaces words in braces by numbers and hexadecimal literals. These mean the same in every ``sql_mode``,
whatever it does with quotes and backslashes, and are bytes, so no character set or collation applies. For the same
reason there is no ``||``, no empty string, and no string in quotes but one date.

Times are microseconds since 1970 by the server's clock in UTC, so no time zone matters. `UTC_TIMESTAMP` is the start of
the statement, even if it then waited for a lock on the row: the lease still lasts as long as requested from the
request, as its holder counts. (`SYSDATE` would be later, but in the session's time zone, and different on a replica
that repeats statements.)

A request is one packet of up to four statements, each a transaction of its own that leaves nothing in the session, so
any connection of a pooler will do.
"""

from __future__ import annotations

from ..wire.sql import NOW

#: The server's time.
TIME = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
# MariaDB limits the wait for another's lock, lest statements that nobody waits for any more pile up behind it: in
# whole seconds. To MySQL, which has no such thing for one statement, it is a comment.
_PATIENTLY = "/*M!100300 SET STATEMENT innodb_lock_wait_timeout=PATIENCE FOR */"


def statement(text: str, table: str, **values: str | bytes | int | None) -> str:
    """Return a statement with `values` in their places, on the table that is named `table`, quoted already."""
    literals = {name: _literal(value) for name, value in values.items()}
    return text.format(leases=table, **literals)


def with_ends(text: str, lapses_at: str, held_until: str) -> str:
    """Return `UPDATE` or `INSERT` for these ends of lease and hold."""
    return text.replace("LAPSES_AT", lapses_at).replace("HELD_UNTIL", held_until).replace(NOW, TIME)


def patient(text: str, seconds: float) -> str:
    """Return a whole statement that waits for another's lock for about so many seconds at the most."""
    return text.replace("PATIENCE", str(max(1, int(seconds))))


def _literal(value: str | bytes | int | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(int(value))


#: Names are the keys' own bytes; everything else that is text is ASCII.
CREATE = (
    "CREATE TABLE IF NOT EXISTS {leases} (name VARBINARY(800) NOT NULL PRIMARY KEY,"
    " version VARBINARY(16) NOT NULL, record MEDIUMBLOB NOT NULL,"
    " lapses_at BIGINT NOT NULL, held_until BIGINT NOT NULL)"
    " ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary"
)

#: Before a `READ`: what it shows was committed, whatever the server's own setting. It holds for the one statement
#: behind it. A proxy that spreads what begins with SELECT over replicas sends both to where writes go.
COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
#: Answers one row: the server's time, that of the key or nothing, and whether this server only reads.
READ = (
    f"SELECT {TIME}, c.version, c.record, c.lapses_at, c.held_until, @@global.read_only"
    " FROM (SELECT 1) AS one LEFT JOIN {leases} AS c ON c.name = {name}"
)

#: Changes one row, or none: another wrote meanwhile.
UPDATE = (
    f"{_PATIENTLY} UPDATE {{leases}} SET version = {{version}}, record = {{record}},"
    " lapses_at = LAPSES_AT, held_until = HELD_UNTIL WHERE name = {name} AND version = {seen}"
)
#: The same where there was no row. Nothing but a row that is there already is passed over.
INSERT = (
    f"{_PATIENTLY} INSERT INTO {{leases}} (name, version, record, lapses_at, held_until)"
    " VALUES ({name}, {version}, {record}, LAPSES_AT, HELD_UNTIL) ON DUPLICATE KEY UPDATE version = version"
)
#: Behind them. Answers one row: the server's time, and both ends if this version was written, and not replaced since.
WRITTEN = (
    f"SELECT {TIME}, c.lapses_at, c.held_until"
    " FROM (SELECT 1) AS one LEFT JOIN {leases} AS c ON c.name = {name} AND c.version = {version}"
)

#: A row if the server is a node of a Galera cluster, which other servers than such do not know.
GALERA = "SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'"
#: The statements in between see all earlier writes of other nodes: 7 is reading and writing.
CAUGHT_UP, AS_BEFORE = "SET SESSION wsrep_sync_wait = 7", "SET SESSION wsrep_sync_wait = DEFAULT"

LIST = "SELECT name FROM {leases} WHERE name > {last} ORDER BY name LIMIT {page}"

REMOVE = f"{_PATIENTLY} DELETE FROM {{leases}} WHERE name = {{name}} AND version = {{seen}}"

READ_ONLY = "SELECT @@global.read_only"
