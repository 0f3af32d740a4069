"""What PostgreSQL does in one statement each: the rules over the row of a key (see `sql` for its columns).

Parameters are ``$1``, the key, ``$2``, the owner, and what the statement needs. `LEASES` in a text
stands for the table's name.

The server's clock is looked at once, at the beginning of a statement. One that then waits for
another's to end judges and grants by a time that is past: it takes over a little later than it might,
and a lease still lasts as long as asked from when it was asked for.

An `ACQUIRE` looks first and writes only where it seems to get the key: who is refused locks nothing,
writes nothing and waits for nobody. Of several that seem to get it, one does; the condition is judged
again on the row as it is once that is locked, and the others are told to look again.

Who gives up waiting for an answer leaves the statement to the server, which goes on with it. So the wait for
a lock is limited (`CLOCK`), lest statements pile up behind it; and as several may wait for one lock, and get it in
any order, a renewal never takes back what a later one gave.

Statements are sent without being prepared by name, leave nothing behind in the session, and are
transactions of their own: any of a pooler's connections will do.
"""

from __future__ import annotations

from ...lease.vocabulary import CANCELLED, ENDED, FORGOTTEN, HELD, HISTORY, HOLD
from ..wire.sql import FREE, GONE, YOURS

# What lock_timeout takes.
_LONGEST_PATIENCE = (1 << 31) - 1
#: The least that a role needs on the table. DELETE lets the doctor remove its probe.
GRANTS = "SELECT, INSERT, UPDATE"


def statement(text: str, table: str, patience: float = 0.0) -> bytes:
    """Return a statement for the table of this (quoted) name, as short as it can be: each request sends it whole.

    It waits for another's lock for `patience` seconds at the most, if it is one that can have to wait.
    """
    milliseconds = max(1, min(int(patience * 1000), _LONGEST_PATIENCE))
    return " ".join(text.split()).replace("PATIENCE", str(milliseconds)).replace("LEASES", table).encode()


#: Made with room in each page, so that an update of the row stays in the page and out of the index.
CREATE = """
CREATE TABLE IF NOT EXISTS LEASES (
  name text COLLATE "C" PRIMARY KEY,
  fence bigint NOT NULL,
  lapses_at timestamptz NOT NULL DEFAULT 'epoch',
  held_until timestamptz NOT NULL DEFAULT 'epoch',
  kept_until timestamptz NOT NULL DEFAULT 'epoch',
  forced boolean NOT NULL DEFAULT false,
  run_owner text, run_tick text, run_fence bigint, run_line text,
  last_owner text, last_tick text, last_fence bigint, last_line text,
  kept_owner text, kept_tick text, kept_fence bigint, kept_line text,
  gone text[] NOT NULL DEFAULT '{}',
  history text[] NOT NULL DEFAULT '{}',
  success text
) WITH (fillfactor = 50)
"""

_OURS = "(c.run_owner = $2 AND NOT $2 = ANY(c.gone))"
_GO = f"(array_prepend($2, array_remove(c.gone, $2)))[1:{GONE}]"
_SECONDS = "round(extract(epoch FROM {})::numeric, 6)"
# A run that was taken over and restored may be in the history already, and then is its newest.
_PUSH = f"""
(array_prepend({{}}, CASE WHEN split_part(c.history[1], E'\\t', 1) = split_part(c.run_line, E'\\t', 1)
  THEN c.history[2:] ELSE c.history END))[1:{HISTORY}]
"""

_DEAD = "c.run_line || CASE WHEN c.forced THEN E'\\toutcome=released' ELSE E'\\toutcome=died' END"

#: Begins each statement that may wait for a lock. The setting ends with the statement's transaction.
CLOCK = "WITH clock AS (SELECT clock_timestamp() AS now, set_config('lock_timeout', 'PATIENCE', true))"

# $7 is a sight's floor, $8 whether less than that is to be doubted, $9 the tick of a standby.
_REFUSAL = f"""
CASE
  WHEN c.name IS NULL THEN
    CASE WHEN $9::text IS NOT NULL THEN '{ENDED}'
      WHEN $7::bigint > 0 AND $8::boolean THEN '{FORGOTTEN}' ELSE '{FREE}' END
  WHEN $2 = ANY(c.gone) THEN '{CANCELLED}'
  WHEN c.run_owner = $2 AND c.lapses_at > NOW THEN '{YOURS}'
  WHEN $9 IS NOT NULL AND NOT coalesce(
    CASE WHEN c.run_owner IS NULL THEN c.last_tick = $9
      ELSE c.run_tick = $9 AND (c.lapses_at > NOW OR NOT (c.forced OR c.run_owner = ANY(c.gone))) END,
    false) THEN '{ENDED}'
  WHEN c.run_owner IS NOT NULL AND c.lapses_at > NOW THEN '{HELD}'
  WHEN c.held_until > NOW AND NOT ($6::boolean OR $9 IS NOT NULL OR coalesce(c.run_owner = $2, false)) THEN '{HOLD}'
  WHEN c.fence < $7 AND $8 THEN '{FORGOTTEN}'
  ELSE '{FREE}'
END
"""

_AGAIN = "coalesce(c.run_owner = $2, false)"
_NOW = "(SELECT now FROM clock)"
_FENCE = "greatest(c.fence + 1, excluded.fence)"
_STARTED = "$3 || E'\\tstarted_at=' || " + _SECONDS.format(_NOW)


def _kept(column: str, otherwise: str) -> str:
    """Return the hold that the new run leaves be, or one part of the run that it belonged to."""
    source = "c.held_until" if column == "until" else f"c.run_{column}"
    return f"""
    kept_{column} = CASE WHEN {_AGAIN} THEN c.kept_{column}
      WHEN c.held_until > {_NOW} OR $9 IS NOT NULL THEN {source} ELSE {otherwise} END
    """


#: $3 the line's head, $4 ttl and $5 hold in seconds, $6 whether to ignore a hold. Answers one row: why
#: (`granted` too), the server's time, the row's fence, the seconds that lease and hold last, the
#: line of the latest run and (of a grant) that of the run before it.
ACQUIRE = f"""
{CLOCK},
seen AS (
  SELECT {_REFUSAL.replace("NOW", "clock.now")} AS why, c.fence, c.lapses_at, c.held_until,
    coalesce(c.run_line, c.last_line) AS line
  FROM clock LEFT JOIN LEASES AS c ON c.name = $1
),
taken AS (
  INSERT INTO LEASES AS c (name, fence, lapses_at, held_until, run_owner, run_tick, run_fence, run_line)
  SELECT $1, new.fence, new.now + make_interval(secs => $4),
    CASE WHEN $5::float8 > 0 THEN new.now + make_interval(secs => $5) ELSE 'epoch' END,
    $2, coalesce($9, $2), new.fence, {_STARTED} || E'\\tfence=' || new.fence
  FROM (SELECT now, greatest($7::bigint + 1, (extract(epoch FROM now) * 1000000)::bigint) AS fence FROM clock) AS new
  WHERE (SELECT why FROM seen) = '{FREE}'
  ON CONFLICT (name) DO UPDATE SET
    fence = {_FENCE},
    lapses_at = excluded.lapses_at,
    held_until = greatest(c.held_until, excluded.held_until),
    {_kept("until", "'epoch'")},
    {_kept("owner", "NULL")},
    {_kept("tick", "NULL")},
    {_kept("fence", "NULL")},
    {_kept("line", "NULL")},
    forced = false,
    run_owner = excluded.run_owner,
    run_tick = excluded.run_tick,
    run_fence = {_FENCE},
    run_line = {_STARTED} || E'\\tfence=' || {_FENCE} || CASE
      WHEN {_AGAIN} THEN coalesce(E'\\ttook_over=' || substring(c.run_line FROM E'\\ttook_over=([0-9]+)'), '')
      WHEN $9 IS NULL THEN '' ELSE coalesce(E'\\ttook_over=' || coalesce(c.run_fence, c.last_fence), '') END,
    history = CASE WHEN c.run_owner IS NULL OR {_AGAIN} THEN c.history
      ELSE {_PUSH.format(_DEAD)} END
  WHERE {_REFUSAL.replace("NOW", _NOW)} = '{FREE}'
  RETURNING fence, lapses_at, held_until, run_line AS line, history[1] AS before
),
answer AS (
  SELECT 'granted' AS why, fence, lapses_at, held_until, line, before FROM taken
  UNION ALL
  SELECT why, fence, lapses_at, held_until, line, NULL FROM seen WHERE NOT EXISTS (SELECT 1 FROM taken)
)
SELECT answer.why, {_SECONDS.format("clock.now")}, answer.fence,
  {_SECONDS.format("answer.lapses_at - clock.now")},
  {_SECONDS.format("answer.held_until - clock.now")},
  answer.line, answer.before
FROM answer, clock
"""

#: $3 the ttl in seconds. Answers the server's time, if the lease was renewed.
RENEW = f"""
{CLOCK}
UPDATE LEASES AS c SET lapses_at = greatest(c.lapses_at, clock.now + make_interval(secs => $3))
FROM clock WHERE c.name = $1 AND {_OURS}
RETURNING {_SECONDS.format("clock.now")}
"""

_ENDED = f"""c.run_line || E'\\tended_at=' || {_SECONDS.format("clock.now")} || $3"""

#: $3 the line's end, $4 whether a standby may still take over, $5 whether it was a success, $6 whether to
#: keep the hold. Answers whether it was ours. Late or not, the owner does not get the key again.
RELEASE = f"""
{CLOCK},
ended AS (
  UPDATE LEASES AS c SET
    last_owner = c.run_owner, last_tick = CASE WHEN $4 THEN c.run_tick END, last_fence = c.run_fence,
    last_line = {_ENDED},
    success = CASE WHEN $5 THEN {_ENDED} ELSE c.success END,
    history = {_PUSH.format(_ENDED)},
    run_owner = NULL, run_tick = NULL, run_fence = NULL, run_line = NULL,
    lapses_at = 'epoch', held_until = CASE WHEN $6 THEN c.held_until ELSE c.kept_until END,
    kept_until = 'epoch', kept_owner = NULL, kept_tick = NULL, kept_fence = NULL, kept_line = NULL,
    gone = {_GO}
  FROM clock WHERE c.name = $1 AND {_OURS}
  RETURNING 1
),
late AS (
  INSERT INTO LEASES AS c (name, fence, gone) SELECT $1, 0, ARRAY[$2] WHERE NOT EXISTS (SELECT 1 FROM ended)
  ON CONFLICT (name) DO UPDATE SET gone = {_GO} WHERE NOT $2 = ANY(c.gone)
)
SELECT count(*) FROM ended
"""

#: Answers nothing.
ABANDON = f"""
{CLOCK}
INSERT INTO LEASES AS c (name, fence, gone) SELECT $1, 0, ARRAY[$2] FROM clock
ON CONFLICT (name) DO UPDATE SET
  run_owner = CASE WHEN {_OURS} THEN c.kept_owner ELSE c.run_owner END,
  run_tick = CASE WHEN {_OURS} THEN c.kept_tick ELSE c.run_tick END,
  run_fence = CASE WHEN {_OURS} THEN c.kept_fence ELSE c.run_fence END,
  run_line = CASE WHEN {_OURS} THEN c.kept_line ELSE c.run_line END,
  lapses_at = CASE WHEN {_OURS} THEN 'epoch' ELSE c.lapses_at END,
  held_until = CASE WHEN {_OURS} THEN c.kept_until ELSE c.held_until END,
  kept_until = CASE WHEN {_OURS} THEN 'epoch' ELSE c.kept_until END,
  kept_owner = CASE WHEN {_OURS} THEN NULL ELSE c.kept_owner END,
  kept_tick = CASE WHEN {_OURS} THEN NULL ELSE c.kept_tick END,
  kept_fence = CASE WHEN {_OURS} THEN NULL ELSE c.kept_fence END,
  kept_line = CASE WHEN {_OURS} THEN NULL ELSE c.kept_line END,
  gone = {_GO}
WHERE NOT $2 = ANY(c.gone)
"""

#: Answers whether lease or hold was taken; the run stays in the record, since it did not end by its own word.
FORCE_RELEASE = f"""
{CLOCK},
old AS (
  SELECT c.name, greatest(c.lapses_at, c.held_until) > clock.now AS taken
  FROM LEASES AS c, clock
  WHERE c.name = $1
    AND (c.run_owner = $2 OR c.run_owner IS NULL AND c.last_owner = $2 AND c.held_until > clock.now)
  FOR UPDATE OF c
)
UPDATE LEASES AS c SET
  lapses_at = 'epoch', held_until = 'epoch', kept_until = 'epoch',
  kept_owner = NULL, kept_tick = NULL, kept_fence = NULL, kept_line = NULL,
  forced = c.run_owner IS NOT NULL, gone = {_GO}
FROM old WHERE c.name = old.name
RETURNING old.taken
"""

#: Answers the run's line, whether it was made to end by force, the seconds that lease and hold last, the
#: lines of the last run and the last success, and the history's, one a line.
READ = f"""
SELECT c.run_line, c.forced,
  {_SECONDS.format("c.lapses_at - clock.now")},
  {_SECONDS.format("c.held_until - clock.now")},
  c.last_line, c.success, array_to_string(c.history, E'\\n')
FROM LEASES AS c, (SELECT clock_timestamp() AS now) AS clock WHERE c.name = $1 AND c.fence > 0
"""

#: $1 the last name of the page before, $2 how many.
LIST = "SELECT name FROM LEASES WHERE name > $1 AND fence > 0 ORDER BY name LIMIT $2"
