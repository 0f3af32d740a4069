"""What MySQL and MariaDB do in one statement each: the rules over the row of a key (see `sql` for its columns).

Words in braces stand for values, which `statement` puts in as numbers and as hexadecimal literals. These
are the same in every ``sql_mode``, whatever it does with quotes and backslashes, and they are bytes, so
that no character set and no collation has a say. For the same reason there is no ``||``, no empty string,
and no string in quotes but one date. Words behind a ``$`` are abbreviations.

Times are microseconds since 1970 by the server's clock in UTC, of which no time zone is left to be set
wrong. `UTC_TIMESTAMP` is the time at which the statement began, also where it then waited for another's
lock on the row, and that is on the safe side: what had lapsed then has lapsed now, and a lease that
counts from then still lasts as long as asked from when it was asked for, which is what its holder counts
from. A renewal that waited may be behind a later one, and so never takes back what that gave. (`SYSDATE`
would be the later time, but in the session's time zone, and another one on a replica that repeats
statements.)

Assignments are evaluated from left to right, each seeing what those before it made of the row; or all
on the row as it was, with MariaDB's ``SIMULTANEOUS_ASSIGNMENT``. So each column is changed only behind
all that look at it, and the order of the lines matters.

A request is one packet of one to three statements, each a transaction of its own that leaves nothing
behind in the session: any of a pooler's connections will do. What may come between two of them is said
with each. ``ACQUIRE`` and ``LOOK`` go together: the first takes the key if it is to be had, the second
tells what became of it, whoever has it. One that takes nothing changes nothing.
"""

from __future__ import annotations

from ...lease.vocabulary import HISTORY
from ..wire.sql import GONE

#: What a user of the table needs.
GRANTS = "SELECT, INSERT, UPDATE"


def _text(words: str) -> str:
    return f"X'{words.encode().hex()}'"


_ABBREVIATIONS = {
    # The run of the row by its line, as the history has it once another run takes its place.
    "$DEAD": f"CONCAT(run_line, IF(forced, {_text(chr(9) + 'outcome=released')}, {_text(chr(9) + 'outcome=died')}))",
    # Ours, and nobody made it end by force.
    "$OURS": "run_owner = {owner} AND forced = 0 AND NOT ($IS_GONE)",
    "$AGAIN": "run_owner <=> {owner}",
    "$WITH_OWNER": f"IF($IS_GONE, gone, SUBSTRING_INDEX(CONCAT_WS($LF, {{owner}}, gone), $LF, {GONE}))",
    "$IS_GONE": "COALESCE(INSTR(CONCAT($LF, gone, $LF), CONCAT($LF, {owner}, $LF)), 0) > 0",
    # The history without its newest line if that is of the row's run: `abandon` brought that back.
    "$REST": f"IF(SUBSTRING_INDEX(SUBSTRING_INDEX(history, $LF, 1), $TAB, 1) = CONCAT({_text('owner=')}, run_owner),"
    " IF(INSTR(history, $LF) = 0, NULL, SUBSTRING(history, INSTR(history, $LF) + 1)), history)",
    # Whether an earlier run's hold is to go on behind this one's.
    "$KEEPS": "(held_until > $NOW OR {tick} IS NOT NULL)",
    "$TOOK_OVER": _text("\ttook_over="),
    "$FENCE": "GREATEST(fence + 1, $NOW, {floor} + 1)",
    "$SECONDS": f"CONCAT($NOW DIV 1000000, {_text('.')}, LPAD($NOW MOD 1000000, 6, {_text('0')}))",
    "$NOW": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
    "$LF": _text("\n"),
    "$TAB": _text("\t"),
}


def _expanded(text: str) -> str:
    for word, meaning in _ABBREVIATIONS.items():
        text = text.replace(word, meaning)
    return " ".join(text.split())


def statement(text: str, table: str, **values: str | int | bool | None) -> str:
    """Return a statement with `values` in their places, on the table that is named `table`, quoted already."""
    literals = {name: _literal(value) for name, value in values.items()}
    return text.format(leases=table, **literals)


def _literal(value: str | int | bool | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"X'{value.encode('utf-8', 'surrogateescape').hex()}'"
    return str(int(value))


#: Names are the keys' own bytes; everything else that is text is ASCII.
CREATE = _expanded("""
CREATE TABLE IF NOT EXISTS {leases} (
  name VARBINARY(800) NOT NULL PRIMARY KEY,
  fence BIGINT NOT NULL DEFAULT 0,
  lapses_at BIGINT NOT NULL DEFAULT 0,
  held_until BIGINT NOT NULL DEFAULT 0,
  kept_until BIGINT NOT NULL DEFAULT 0,
  forced TINYINT NOT NULL DEFAULT 0,
  gone MEDIUMBLOB,
  history MEDIUMBLOB,
  success BLOB,
  run_owner BLOB, run_tick BLOB, run_fence BIGINT, run_line BLOB,
  last_owner BLOB, last_tick BLOB, last_fence BIGINT, last_line BLOB,
  kept_owner BLOB, kept_tick BLOB, kept_fence BIGINT, kept_line BLOB
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary
""")

#: Give the key a row if it has none, which `ACQUIRE` and `LOOK` then find. Nothing may come between that matters.
INSERT = "INSERT IGNORE INTO {leases} (name) VALUES ({name})"

#: Take the key if the rules give it (see `mysql` for the same rules as an answer).
ACQUIRE = _expanded(f"""
UPDATE {{leases}} SET
  history = IF(run_owner IS NULL OR $AGAIN, history, SUBSTRING_INDEX(CONCAT_WS($LF, $DEAD, $REST), $LF, {HISTORY})),
  kept_owner = IF($AGAIN, kept_owner, IF($KEEPS, run_owner, NULL)),
  kept_tick = IF($AGAIN, kept_tick, IF($KEEPS, run_tick, NULL)),
  kept_fence = IF($AGAIN, kept_fence, IF($KEEPS, run_fence, NULL)),
  kept_line = IF($AGAIN, kept_line, IF($KEEPS, run_line, NULL)),
  kept_until = IF($AGAIN, kept_until, IF($KEEPS, held_until, 0)),
  held_until = GREATEST(held_until, $NOW + {{hold}}),
  run_line = CONCAT({{head}}, {_text(chr(9) + "started_at=")}, $SECONDS, {_text(chr(9) + "fence=")}, $FENCE,
    COALESCE(IF($AGAIN,
      IF(INSTR(run_line, $TOOK_OVER) > 0, SUBSTRING(run_line, INSTR(run_line, $TOOK_OVER)), NULL),
      IF({{tick}} IS NULL, NULL, CONCAT($TOOK_OVER, IF(run_owner IS NULL, last_fence, run_fence)))), X'')),
  run_tick = COALESCE({{tick}}, {{owner}}),
  run_fence = $FENCE,
  fence = $FENCE,
  forced = 0,
  lapses_at = $NOW + {{ttl}},
  run_owner = {{owner}}
WHERE name = {{name}} AND lapses_at <= $NOW AND NOT ($IS_GONE) AND NOT ($AGAIN AND forced)
  AND (fence >= {{floor}} OR NOT {{doubted}})
  AND IF({{tick}} IS NULL, held_until <= $NOW OR {{ignore_hold}} OR $AGAIN,
    IF(run_owner IS NULL, last_tick, IF(forced, NULL, run_tick)) <=> {{tick}})
""")

#: The newest line of the history goes to nobody but the owner.
LOOK = _expanded("""
SELECT $NOW, fence, lapses_at - $NOW, held_until - $NOW, forced, $IS_GONE, $AGAIN, run_owner IS NULL,
  IF(run_owner IS NULL, last_tick, run_tick) <=> {tick}, IF(run_owner IS NULL, last_line, run_line),
  IF($AGAIN, SUBSTRING_INDEX(history, $LF, 1), NULL)
FROM {leases} WHERE name = {name}
""")

#: Always another value: some servers and poolers count the rows that a statement changed, others those it found.
RENEW = _expanded("""
UPDATE {leases} SET lapses_at = GREATEST(lapses_at + 1, $NOW + {ttl}) WHERE name = {name} AND $OURS
""")
TIME = _expanded("SELECT $NOW")

#: A row if the server is a node of a Galera cluster, which other servers than such do not know.
GALERA = "SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'"
#: What is asked in between sees all that other nodes did before: 7 is reading and writing.
CAUGHT_UP, AS_BEFORE = "SET SESSION wsrep_sync_wait = 7", "SET SESSION wsrep_sync_wait = DEFAULT"

RELEASE = _expanded(f"""
UPDATE {{leases}} SET
  last_line = CONCAT(run_line, {_text(chr(9) + "ended_at=")}, $SECONDS, {{end}}),
  history = SUBSTRING_INDEX(CONCAT_WS($LF, CONCAT(run_line, {_text(chr(9) + "ended_at=")}, $SECONDS, {{end}}), $REST),
    $LF, {HISTORY}),
  success = IF({{success}}, CONCAT(run_line, {_text(chr(9) + "ended_at=")}, $SECONDS, {{end}}), success),
  last_tick = IF({{undone}}, run_tick, NULL),
  last_fence = run_fence,
  last_owner = run_owner,
  held_until = IF({{keep_hold}}, held_until, kept_until),
  kept_until = 0, kept_owner = NULL, kept_tick = NULL, kept_fence = NULL, kept_line = NULL,
  lapses_at = 0,
  gone = $WITH_OWNER,
  run_tick = NULL, run_fence = NULL, run_line = NULL, run_owner = NULL
WHERE name = {{name}} AND $OURS
""")

#: Whatever of the owner's is still on its way is refused from now on.
GO = _expanded("""
INSERT INTO {leases} (name, gone) VALUES ({name}, {owner}) ON DUPLICATE KEY UPDATE gone = $WITH_OWNER
""")

#: Behind `GO`: between the two, the key is held by a run that can neither renew it nor ask for it again.
GIVE_BACK = _expanded("""
UPDATE {leases} SET
  held_until = kept_until, kept_until = 0,
  lapses_at = 0,
  run_tick = kept_tick, run_fence = kept_fence, run_line = kept_line, run_owner = kept_owner,
  kept_tick = NULL, kept_fence = NULL, kept_line = NULL, kept_owner = NULL
WHERE name = {name} AND run_owner = {owner} AND forced = 0
""")

#: Take what is taken. The run stays in the record: it did not end by its own word.
FORCE = _expanded("""
UPDATE {leases} SET
  forced = (run_owner IS NOT NULL),
  lapses_at = 0, held_until = 0,
  kept_until = 0, kept_owner = NULL, kept_tick = NULL, kept_fence = NULL, kept_line = NULL,
  gone = $WITH_OWNER
WHERE name = {name} AND IF(run_owner IS NULL, last_owner = {owner} AND held_until > $NOW,
  run_owner = {owner} AND forced = 0 AND (lapses_at > $NOW OR held_until > $NOW))
""")
#: The same where nothing is left to take: nobody takes over from the run any more.
FORCE_DEAD = _expanded("""
UPDATE {leases} SET forced = 1, gone = $WITH_OWNER WHERE name = {name} AND run_owner = {owner} AND forced = 0
""")

READ = _expanded("""
SELECT run_line, forced, lapses_at - $NOW, held_until - $NOW, last_line, success, history
FROM {leases} WHERE name = {name} AND fence > 0
""")

LIST = "SELECT name FROM {leases} WHERE name > {last} AND fence > 0 ORDER BY name LIMIT {page}"

READ_ONLY = "SELECT @@global.read_only"
