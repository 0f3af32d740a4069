"""Deliberate bugs of each engine's store, which the engine's own tests must catch: the contract, faults, clocks.

python -m chaos.mutants.stores [NAME...]    all unless named, by their beginning: redis, redis-no-condition
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import Edit, put_in

_ROOT = Path(__file__).resolve().parents[2]
_SQL = "tests/engines/sql/test_contract.py"
#: By engine: the tests that are run on each of its bugs.
_TESTS = {
    "redis": ("tests/engines/redis/test_redis.py::TestPlain",),
    "memcached": tuple(f"tests/engines/memcached/test_memcached{part}.py" for part in ("", "_time")),
    "etcd": ("tests/engines/etcd/test_etcd.py", "tests/engines/etcd/test_etcd_losses.py"),
    "zookeeper": tuple(f"tests/engines/zookeeper/test_zookeeper{part}.py" for part in ("", "_session", "_servers")),
    "postgresql": (f"{_SQL}::TestPlain", "tests/engines/sql/test_stores.py", "tests/engines/sql/test_tables.py"),
    "mysql": (f"{_SQL}::TestPlain", "tests/engines/sql/test_stores.py", "tests/engines/sql/test_tables.py"),
    "dynamodb": ("tests/engines/dynamodb/test_dynamodb.py", "tests/engines/dynamodb/test_dynamodb_clocks.py"),
    "s3": ("tests/engines/s3/test_s3.py", "tests/engines/s3/test_s3_clocks.py"),
    "file": ("tests/engines/file",),
    "sqs": ("tests/engines/sqs",),
}
# An emulator is enough for a bug of ours; and of two SQL engines the one whose bug it is.
_ONLY = {"dynamodb": "not moto", "s3": "not moto", "sqs": "not moto", "postgresql": "not mysql and not mariadb"}
_ONLY["mysql"] = "not postgresql"


class StoreMutant(NamedTuple):
    """A bug of one engine's store."""

    engine: str
    name: str
    edits: Sequence[Edit]


def _of(engine: str, **bugs: Sequence[tuple[str, str]]) -> list[StoreMutant]:
    return [
        StoreMutant(engine, f"{engine}-{name.replace('_', '-')}", [Edit(*edit) for edit in edits])
        for name, edits in bugs.items()
    ]


_ALL = [
    *_of(
        "redis",
        no_condition=[("if (there[2] or '') ~= ARGV[2] or exists ~= (ARGV[2] == '' and 0 or 1) then", "if false then")],
        version_stays=[("version = os.urandom(8).hex().encode()", "version = before or b'1'")],
        hold_shortened=[("math.max(tonumber(stays), now + tonumber(length))", "now + tonumber(length)")],
        over_too_early=[("lease=max(0, lease - now) / 1e6,", "lease=max(0, lease - now - 1_500_000) / 1e6,")],
        lost_reply_is_a_refusal=[
            (
                "        answer, *waited = self._ask(key, commands, deadline)\n",
                "        try:\n            answer, *waited = self._ask(key, commands, deadline)\n"
                "        except Exception:\n            return False, seen\n",
            )
        ],
    ),
    *_of(
        "memcached",
        no_condition=[
            ("if before.version != seen.version:", "if False:"),
            (
                "cas, left = connection.swap(self.name(key), value, before.cas, KEPT)",
                "cas, left = connection.swap(self.name(key), value, self._read(connection, key).cas, KEPT)",
            ),
        ],
        version_stays=[("word = os.urandom(8).hex().encode()", "word = b'1'")],
        no_slack=[("return seconds + SLACK if seconds > 0 else 0.0", "return max(0.0, seconds - 1.0)")],
    ),
    *_of(
        "etcd",
        no_condition=[
            (
                "[unchanged(names.record, seen.modified), unchanged_or_absent(names.lease, seen.lease_modified)]",
                "[]",
            ),
            ("            conditions.append(has_value(names.record, seen.data))", "            pass"),
        ],
        lease_not_compared=[(", unchanged_or_absent(names.lease, seen.lease_modified)]", "]")],
        hold_without_lease=[
            (
                "parts += [put(one.key, one.text, one.lease) for one in asked]",
                "parts += [put(one.key, one.text, asked[-1].lease) for one in asked]",
            )
        ],
        holds_stay=[("parts += [delete(one.key) for one in dropped]", "pass")],
        late_hold=[("if not done or isinstance(hold, Cell) or not hold or took <= slack:", "if True:")],
    ),
    *_of(
        "zookeeper",
        no_condition=[
            (
                "parts.append(SetData(path, text, seen.node[1] if seen.node else 0))",
                "parts.append(SetData(path, text, ANY_VERSION))",
            )
        ],
        lease_not_compared=[("            parts.append(CheckVersion(node, ANY_VERSION))", "            pass")],
        lease_for_ever=[("_EPHEMERAL = 1", "_EPHEMERAL = 0")],
        renewed_by_nothing=[("own.drop()  # Only reopening it counts at the leader; see above.", "pass")],
        hold_forgotten=[
            (
                "if isinstance(hold, Cell):\n        until, hold = (hold.hold_until",
                "if isinstance(hold, Cell):\n        until, hold = (0",
            )
        ],
    ),
    *_of(
        "postgresql",
        no_condition=[("FROM clock WHERE c.name = $1 AND c.version = $4", "FROM clock WHERE c.name = $1 AND $4 <> ''")],
        overwrites_the_new=[
            (
                "ON CONFLICT (name) DO NOTHING",
                "ON CONFLICT (name) DO UPDATE SET version = $2, record = $3, lapses_at = LAPSES_AT",
            )
        ],
        hold_shortened=[('f"GREATEST({held_until}, {_end(hold)})"', "_end(hold)")],
        refusal_without_a_look=[("return False, self._read(key, deadline, exact=True)", "return False, seen")],
    ),
    *_of(
        "mysql",
        no_condition=[
            (
                'LAPSES_AT, held_until = HELD_UNTIL WHERE name = {name} AND version = {seen}"',
                'LAPSES_AT, held_until = HELD_UNTIL WHERE name = {name} AND {seen} IS NOT NULL"',
            )
        ],
        overwrites_the_new=[
            (
                "ON DUPLICATE KEY UPDATE version = version",
                "ON DUPLICATE KEY UPDATE version = {version}, record = {record}, lapses_at = LAPSES_AT",
            )
        ],
        done_by_count=[
            ("is_done = row[1] is not None or (seen.version is not None and answers[0][0] > 0)", "is_done = True")
        ],
        version_stays=[
            (
                "version, sent = os.urandom(8).hex(), self._clock.now()",
                "version, sent = str(seen.version or 1), self._clock.now()",
            )
        ],
    ),
    *_of(
        "dynamodb",
        no_condition=[('condition = "#rev = :old"', 'condition = "#rev <> :old OR #rev = :old"')],
        clock_bounds_swapped=[
            ("sent, start = clock.now(), times.latest()", "sent, start = clock.now(), times.earliest() - 30.0")
        ],
        over_too_early=[
            (
                "return end - now if end - now > 1.0 else max(0.0, end + SLACK - earliest)",
                "return max(0.0, end - now - 30.0)",
            )
        ],
        ends_not_corrected=[("if not counted or times.latest() - (clock.now() - sent) <= start + _SHORT:", "if True:")],
    ),
    *_of(
        "s3",
        no_condition=[
            ('else {"If-Match": str(tag)}\n        headers = {**condition', "else {}\n        headers = {**condition")
        ],
        overwrites_the_new=[('condition = {"If-None-Match": "*"} if tag is None', "condition = {} if tag is None")],
        refusal_without_a_look=[
            (
                "if found is None or found[0] != data:\n                return False, self._decoded(key, found)",
                "if found is None or found[0] != data:\n                return False, seen",
            )
        ],
        conditions_not_tried=[("        if seen.version is None:\n            self.objects.trust(deadline)\n", "")],
        doubled_request_is_a_refusal=[("if found is None or found[0] != data:", "if True:")],
        version_stays=[("version=os.urandom(8).hex(),", 'version="same",')],
        ends_by_the_earliest_time=[
            ("sent, start = clock.now(), times.latest()", "sent, start = clock.now(), times.earliest() - 30.0")
        ],
    ),
    *_of(
        "file",
        version_not_compared=[
            ("if slot.version() != seen.version and mine is not None:", "if False:"),
            ("if slot.version() != seen.version or ours != mine:", "if ours != mine:"),
        ],
        no_turn=[("turn = lockfile.take_turn(descriptor, path)", "turn = ()")],
        not_locked=[
            ("if not lockfile.lock(descriptor, fcntl.LOCK_EX):\n                    return None, _NOTHING", "pass")
        ],
        hold_outlives_a_boot=[("slot.but(boot=boot, hold_until=0.0)", "slot")],
    ),
    *_of(
        "sqs",
        # That an attempt has a name of its own no emulator looks at.
        token_deleted=[
            (
                '            return not self._ask("ChangeMessageVisibility", request, deadline, _INVALID).code',
                "            return self.delete_token(key, handle, deadline)",
            )
        ],
        # Two places look; without one of them the other does.
        handle_used_when_over=[
            ("        if now >= token.until:\n            self._end(token)\n            return False\n", ""),
            ("return token if self.clock.now() < token.until else None", "return token"),
        ],
        lost_renewal_counted_on=[("token.until = min(token.until, until)", "token.until = until")],
        refusal_not_heeded=[
            (
                "if not self.queues.change(token.claim.key, token.handle, min(wanted, room), deadline):",
                "if self.queues.change(token.claim.key, token.handle, min(wanted, room), deadline) is None:",
            )
        ],
        renewal_shortens_the_hold=[("queue.seconds(max(ttl, token.held_until - now))", "queue.seconds(ttl)")],
        hold_not_kept=[("rest = queue.seconds(token.held_until - now) if keep_hold else 0", "rest = 0")],
    ),
]
STORE_MUTANTS = {mutant.name: mutant for mutant in _ALL}


def caught(mutant: StoreMutant) -> tuple[bool, str]:
    """Return whether the engine's tests find the bug, and what they print."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        put_in(mutant.name, mutant.edits, Path(directory) / "mutant")
        # The copy is imported before the tests' own directory is looked at.
        code = f"import sys; sys.path.insert(0, {str(Path(directory) / 'mutant')!r}); import cronlock, pytest; "
        code += "sys.exit(pytest.main(sys.argv[1:]))"
        words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *_TESTS[mutant.engine]]
        words += ["-k", _ONLY[mutant.engine]] if mutant.engine in _ONLY else []
        # Children import what this process does.
        environ = {**os.environ, "PYTHONPATH": str(Path(directory) / "mutant")}
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=_ROOT, env=environ, capture_output=True, text=True
        )
    failed = re.findall(r"^(?:FAILED|ERROR) \S*?([\w\[\]. -]+?)(?: - |$)", done.stdout, re.MULTILINE)
    # 1: tests were run, and some failed.
    return done.returncode == 1, failed[0] if failed else (done.stdout + done.stderr)[-600:]


def main(names: Sequence[str]) -> int:
    """Return 0 if every bug was caught."""
    chosen = [
        mutant for name, mutant in STORE_MUTANTS.items() if not names or any(name.startswith(one) for one in names)
    ]
    missed = 0
    for mutant in chosen:
        began = time.monotonic()
        found, by = caught(mutant)
        missed += not found
        print(f"{mutant.name}: {'caught' if found else 'MISSED'} by {by}; {time.monotonic() - began:.0f} s", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} bugs caught")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
