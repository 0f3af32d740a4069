"""The statements for PostgreSQL, over the table of `cronlock.engines.wire.sql`.

Parameters are ``$1``, the name of the key, and what the statement needs. `LEASES` in a text stands for the table's
name, `LAPSES_AT` and `HELD_UNTIL` for the results of `cronlock.engines.wire.sql.ends`.

The server's clock is read once, at the beginning of a statement. If that then waits for another's lock, it grants by a
time that is past: the lease still lasts as long as requested, counted from the request.

A client's time limit does not cancel the statement on the server. So the wait for a lock is limited (`CLOCK`), lest
statements pile up behind it.

Statements are sent without being prepared by name, leave nothing behind in the session, and are transactions of
their own: any of a pooler's connections will do.
"""

from __future__ import annotations

from ...keys import PRINTABLE, quote, unescape
from ..wire.sql import NOW

# The largest lock_timeout, in milliseconds.
_LONGEST_PATIENCE = (1 << 31) - 1
_MICROSECONDS = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def statement(text: str, table: str, patience: float = 0.0) -> bytes:
    """Return a statement for the table of this (quoted) name, as short as it can be: each request sends it whole.

    It waits for a lock for at most `patience` seconds, if it may have to wait for one.
    """
    milliseconds = max(1, min(int(patience * 1000), _LONGEST_PATIENCE))
    return " ".join(text.split()).replace("PATIENCE", str(milliseconds)).replace("LEASES", table).encode()


def with_ends(text: str, lapses_at: str, held_until: str) -> str:
    """Return `UPDATE` or `INSERT` for these ends of lease and hold."""
    return text.replace("LAPSES_AT", lapses_at).replace("HELD_UNTIL", held_until).replace(NOW, "clock.now")


def code(text: str) -> str:
    """Return `text` as printable ASCII without spaces, whatever the database's encoding.

    The rest, and ``%``, is %XX of its UTF-8 bytes.
    """
    return quote(text, PRINTABLE - {0x20})


def decode(name: str) -> str:
    """Undo `code`; return any other name as it is."""
    try:
        return unescape(name, "surrogateescape")
    except ValueError:
        return name


#: Made with room in each page, so that an update of the row stays in the page and out of the index.
CREATE = """
CREATE TABLE IF NOT EXISTS LEASES (
  name text COLLATE "C" PRIMARY KEY,
  version text NOT NULL,
  record text NOT NULL,
  lapses_at bigint NOT NULL,
  held_until bigint NOT NULL
) WITH (fillfactor = 50)
"""

#: Returns one row: the server's time, the key's columns or NULLs, and whether this server is read-only.
READ = f"""
SELECT clock.now, c.version, c.record, c.lapses_at, c.held_until, current_setting('transaction_read_only')
FROM (SELECT {_MICROSECONDS} AS now) AS clock LEFT JOIN LEASES AS c ON c.name = $1
"""

#: Begins each statement that may wait for a lock. The setting ends with the statement's transaction.
CLOCK = f"WITH clock AS (SELECT {_MICROSECONDS} AS now, set_config('lock_timeout', 'PATIENCE', true))"

#: $2 the new version, $3 the record, $4 the version that was seen. Returns the server's time and both ends, or
#: nothing: another wrote meanwhile. The condition is evaluated on the row once that is locked (Read Committed).
UPDATE = f"""
{CLOCK}
UPDATE LEASES AS c SET version = $2, record = $3, lapses_at = LAPSES_AT, held_until = HELD_UNTIL
FROM clock WHERE c.name = $1 AND c.version = $4
RETURNING clock.now, c.lapses_at, c.held_until
"""

#: The same for a key without a row.
INSERT = f"""
{CLOCK}
INSERT INTO LEASES AS c (name, version, record, lapses_at, held_until)
SELECT $1, $2, $3, LAPSES_AT, HELD_UNTIL FROM clock
ON CONFLICT (name) DO NOTHING
RETURNING (SELECT clock.now FROM clock), c.lapses_at, c.held_until
"""

#: $1 the last name of the page before, $2 how many.
LIST = "SELECT name FROM LEASES WHERE name > $1 ORDER BY name LIMIT $2"

#: $1 the name, $2 the version that was seen. Returns a row if it was removed.
REMOVE = f"""
{CLOCK}
DELETE FROM LEASES AS c USING clock WHERE c.name = $1 AND c.version = $2 RETURNING c.name
"""
