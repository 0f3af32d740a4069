"""etcd v3: a cell is a key for its record, and below ``held/`` one for its lease and one for each hold.

The version is the revision of the record, which every swap writes. A swap compares the record's bytes, too, since a
server that lost its data repeats revisions. It is one transaction, after one request for each new lease of the
server's. Every request may be repeated.

A renewal attaches the key to a new lease. Any server that takes itself for the leader answers a keep-alive: a deposed
one does for a while (https://github.com/etcd-io/etcd/issues/15247), and later revokes leases that others
kept alive (https://github.com/etcd-io/etcd/issues/12528; Debian's 3.4.23 does, later releases rarely). A new lease
needs a majority, and no server ever expects an earlier end of it. Each lease lasts `SLACK` seconds longer than needed.

The leader counts whole seconds on a monotonic clock. A new leader restarts every lease, so leases end late, never
early. A transaction that names a lapsed lease is refused, and changes nothing. A read contains only ranges: on a server
that is out of space, etcd 3.5 refuses a transaction with a put in it, even if that branch is not taken.
"""

from __future__ import annotations

from ...keys import key_of
from ...lease.clock import SystemClock
from ...lease.store import Cell
from ...lease.vocabulary import Traits
from ...system import os
from .api import Cluster, Refusal
from .cell import EtcdCell, cell_of, shown
from .held import Held, forget, grant, left
from .messages import KeyValue, delete, get, has_value, put, unchanged, unchanged_or_absent
from .names import Names, base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...lease.clock import Clock
    from ...lease.store import Hold
    from ..url import URL
    from .messages import Answer
    from .watch import RecordWatch

#: Seconds that etcd's lease lasts beyond the lease that uses it.
SLACK = 2


def open_store(url: URL, timeout: float) -> EtcdStore:
    """Return the store of an etcd:// or etcds:// URL; raise ConfigError for a bad one."""
    return EtcdStore(url, timeout)


class EtcdStore:
    """The `Store` protocol on etcd; see `cronlock.lease.store`."""

    traits = Traits(shortest_ttl=2.0, longest_ttl=365 * 86400.0, notifies=True)

    def __init__(self, url: URL, timeout: float) -> None:
        self.timeout = timeout
        self.notices: list[str] = []
        self._cluster = Cluster(url)
        self._base = base(url)
        self._clock: Clock = SystemClock()

    def read(self, key: str, deadline: float, *, exact: bool = False) -> EtcdCell:
        """Return the cell as a majority has it now; `exact` asks once more for a lease and for each hold."""
        cell = self._read(Names(self._base, key), deadline)
        if not exact:
            return cell
        lease = 0.0 if cell.lease_key is None else left(self._cluster, cell.lease_key, deadline)
        holds = [left(self._cluster, one, deadline) for one in cell.hold_keys]
        return cell.but(lease=lease, hold=max(holds, default=0.0))

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, EtcdCell]:
        """Replace the cell by one transaction, after one request for each new lease of etcd's."""
        slack = float(SLACK)
        useless: list[Held] = []
        before = seen.hold_keys if isinstance(seen, EtcdCell) else ()
        while True:
            began = self._clock.now()
            done, cell = self._swap(Names(self._base, key), seen, data, lease, hold, slack, deadline, useless)
            took = self._clock.now() - began
            if not done or isinstance(hold, Cell) or not hold or took <= slack:
                return done, cell
            # The hold's lease began too long before the swap: replace it by one that is longer by the delay.
            useless = [one for one in cell.hold_keys if one not in before]
            seen, lease, slack = cell, None, SLACK + min(took, self.timeout)

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the record and its holds if it is still as `seen` shows it."""
        if not isinstance(seen, EtcdCell) or seen.data is None:
            return True
        names = Names(self._base, key)
        conditions = [unchanged(names.record, seen.modified), has_value(names.record, seen.data)]
        parts = [delete(names.record), delete(names.held, below=True)]
        return self._transaction(conditions, parts, [], deadline).truth("succeeded")

    def location(self, key: str) -> str:
        """Return the server and the key of the record."""
        return f"{self._cluster.name}: key {shown(Names(self._base, key).record)!r}"

    def keys(self) -> Iterator[str]:
        """List the keys that have a record."""
        names = self._cluster.list_keys(f"{self._base}/record/".encode(), self.timeout)
        return iter([key for key in map(key_of, (name.decode("utf-8", "replace") for name in names)) if key])

    def watch(self, key: str) -> None:
        """Return None: standbys poll, since a watch would keep a connection for each."""

    def notifier(self, key: str) -> RecordWatch:
        """Return what watches the key's record."""
        from .watch import RecordWatch

        return RecordWatch(self._cluster, Names(self._base, key).record)

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: leases outlive a restart of their server."""

    def close(self) -> None:
        """Close the connection."""
        self._cluster.close()

    def _read(self, names: Names, deadline: float) -> EtcdCell:
        record, held = get(names.record), get(names.held, below=True)
        try:
            answer = self._transaction([], [record, held], [], deadline)
        except Refusal as error:
            if not error.no_room:
                raise
            # A full server of 3.5.1 refuses each transaction, also one that only reads: read twice, at one revision.
            first = self._cluster.ask("/v3/kv/range", record["request_range"], deadline)
            request = {**held["request_range"], "revision": str(first.revision)}
            second = self._cluster.ask("/v3/kv/range", request, deadline)
            return cell_of(names, [*first.found(), *second.found()], first.revision)
        return cell_of(names, answer.found_by(2), answer.revision)

    def _swap(
        self,
        names: Names,
        seen: Cell,
        data: bytes,
        lease: float | None,
        hold: Hold,
        slack: float,
        deadline: float,
        useless: list[Held],
    ) -> tuple[bool, EtcdCell]:
        """Swap once, and delete the `useless` holds.

        The hold's lease is long enough if the swap takes effect within `slack` seconds of this call.
        """
        seen = seen if isinstance(seen, EtcdCell) else EtcdCell(version=0)
        parts, asked, dropped = [put(names.record, data)], [], [*useless]
        if isinstance(hold, Cell):
            kept = [one.key for one in hold.hold_keys] if isinstance(hold, EtcdCell) else []
            dropped = [one for one in seen.hold_keys if one.key not in kept]
        elif hold:
            # Before the lease, which lasts less long.
            asked.append(grant(self._cluster, names.hold + os.urandom(8).hex().encode(), hold, slack, deadline))
        if lease:
            asked.append(grant(self._cluster, names.lease, lease, SLACK, deadline))
        elif lease is not None and seen.lease_key is not None:
            dropped.append(seen.lease_key)
        parts += [put(one.key, one.text, one.lease) for one in asked]
        parts += [delete(one.key) for one in dropped]
        conditions = [unchanged(names.record, seen.modified), unchanged_or_absent(names.lease, seen.lease_modified)]
        if seen.data is not None:
            conditions.append(has_value(names.record, seen.data))
        held = get(names.held, below=True)
        try:
            answer = self._transaction(conditions, [*parts, held], [get(names.record), held], deadline)
        except Refusal as error:
            if not error.lease_not_found:
                raise
            return False, self._read(names, deadline)
        done = answer.truth("succeeded")
        if done:
            found = [KeyValue(names.record, data, answer.revision, 0), *answer.found_by(len(parts) + 1)]
        else:
            found = answer.found_by(2)
            # An earlier attempt may have taken effect.
            done = answer.repeated and any((one.key, one.value) == (names.record, data) for one in found)
        forget(self._cluster, dropped if done else asked, deadline)
        return done, cell_of(names, found, answer.revision)

    def _transaction(self, conditions: list[Any], parts: list[Any], otherwise: list[Any], deadline: float) -> Answer:
        message = {"compare": conditions, "success": parts, "failure": otherwise}
        return self._cluster.ask("/v3/kv/txn", message, deadline)
