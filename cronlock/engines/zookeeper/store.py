"""ZooKeeper: a lease is an ephemeral node, so it ends with the session of its run.

Under the prefix each key has a persistent node with its record, and while it is held, a child: an ephemeral node
with a unique name. A swap is one transaction on the version of the record that was seen: of several swaps on the same
version one is carried out, and a late duplicate is refused.

The protocol is implemented here. kazoo, the usual client, keeps threads and connections, queues requests across
sessions, hides a session's timeout and reads replies of any length. Each lease has its own session.

How long a lease lasts: the leader ends a session that it did not hear of for the timeout agreed on at its opening (2 to
20 ticks of the server). A *request* through a follower does not count at the leader: the follower reports its sessions
with its next heartbeat, and may be cut off before. Only opening and reopening a session reaches the leader at once. So
a renewal reopens the session and then writes: the first restarts the timeout at the leader, and the second, which
needs a quorum behind the same leader, proves that this leader was not deposed. A grant does the same, unless its read
just opened the session with this timeout: the run counts from before the read. After the first renewal
no connection is kept, to spare the servers' maxClientCnxns, except by a run that listens for notifications: its watch
on the record needs the connection, and is set again after each renewal. An expired session is replaced by a
new one: the version shows whether another node wrote meanwhile.

Holds are measured by the leader's clock, which shows in the modification times of nodes: a read of a key first writes
to the node ``~clock``, which also makes the read current. A read that finds a lease needs neither, and each write costs
a quorum: of a fleet that asks at the same moment, only one node finds no lease. So a read begins with a plain read
after a ``sync``. That shows a state no older than its session, unless the leader was deposed and has not noticed; a
decision on it can only refuse, since a swap names the version. The floor of fences is the ensemble's transaction
number: no clock can set it back, and it outlives the deletion of a key's node.

With user and password in the URL (the digest scheme) only their creator may use the nodes; without, everyone who
reaches the servers may. Only TLS encrypts the password.

A read leaves its session open for `watch` and the next read, until another request needs none, or `close`. A watch may
be a moment old, so it proves only that a lease still exists (`exact` shows for how long).

Nodes of keys stay until they are removed: ZooKeeper deletes unused nodes only with options that are off by default.
"""

from __future__ import annotations

import time

from ...lease.vocabulary import Traits
from .cell import NodeCell
from .session import Session
from .swap import put
from .tree import LASTING, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.store import Cell, Hold
    from ..url import URL
    from .watch import LeaseWatch, Watch


def open_store(url: URL, timeout: float) -> ZooKeeperStore:
    """Return the store for a zookeeper:// or zookeepers:// URL; raise ConfigError for a bad one."""
    return ZooKeeperStore(url, timeout)


class ZooKeeperStore:
    """The `Store` protocol on a ZooKeeper ensemble."""

    traits = Traits(shortest_ttl=2.0, longest_ttl=365 * 86400.0, notifies=True)

    def __init__(self, url: URL, timeout: float) -> None:
        self.timeout = timeout
        self.notices: list[str] = []
        self._tree = Tree(url, timeout)
        #: By key the sessions of leases that are held, or may be, after a lost reply.
        self._leases: dict[str, Session] = {}
        #: The session for all else, the key that it read last with the cell, and the watch on that.
        self._session = Session(self._tree.name)
        self._seen: tuple[str, NodeCell] | None = None
        self._watch: Watch | None = None
        #: The key whose lease's session keeps its connection, for a watch.
        self._listens_to: str | None = None

    def read(self, key: str, deadline: float, *, exact: bool = False) -> NodeCell:
        """Return the cell as it is now. Without `exact` nothing is written if there is a lease."""
        if exact and self._watch is not None and self._watch.key == key:
            cell = self._watch.look(deadline)
            if cell is not None:
                return cell
        self._drop_last_read()
        with self._tree.opened(self._session, LASTING, deadline):
            cell = self._tree.read(self._session, key, exact=exact)
        self._seen = key, cell
        return cell

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, NodeCell]:
        """Replace the cell `seen` with `data`; the new cell's lease is the timeout that the servers granted."""
        known = seen if isinstance(seen, NodeCell) else NodeCell()
        self._drop_last_read()
        own = self._leases.get(key)
        ours = own is not None and known.is_of(own)
        if lease and own is None:
            own = self._leases[key] = self._session
            self._session = Session(self._tree.name)
            if not own.was_just_opened(lease):
                own.drop()
        elif lease and own is not None:
            own.drop()  # Only reopening it counts at the leader; see above.
        session = own if own is not None and (lease or ours) else self._session
        with self._tree.opened(session, lease or session.timeout or LASTING, deadline):
            cell = put(self._tree, session, key, known, data, lease=lease, hold=hold)
            if cell is not None and lease and ours and key != self._listens_to:
                session.drop()
            done, cell = cell is not None, cell or self._tree.read(session, key, exact=False)
        if own is not None and not (cell.lease and cell.is_of(own)):
            # It has no lease, and gets none any more: a request in flight finds another version.
            del self._leases[key]
            if done or session is not own:
                own.end()
            else:
                self._session.end()
                self._session = own
        if not done:
            self._seen = key, cell
        return done, cell

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the key's node, and the parents that this store made, unless they are in use."""
        self._drop_last_read()
        with self._tree.opened(self._session, LASTING, deadline):
            return self._tree.remove(self._session, key, seen if isinstance(seen, NodeCell) else NodeCell())

    def location(self, key: str) -> str:
        """Return the server's name and the node's."""
        return f"{self._tree.name}: node {self._tree.path(key)}"

    def keys(self) -> Iterator[str]:
        """List the keys that have a node."""
        self._drop_last_read()
        with self._tree.opened(self._session, LASTING, time.monotonic() + self.timeout):
            return self._tree.keys(self._session)

    def watch(self, key: str) -> int | None:
        """Return a descriptor that becomes readable when the key may have changed; None if it was not read just before.

        Raises BackendUnavailable when it cannot be watched. The next request should follow within a third of the
        time that the servers keep sessions (40 s by default); after all of it the descriptor becomes readable.
        """
        if self._watch is None and self._seen is not None and self._seen[0] == key:
            from .watch import Watch

            self._watch = Watch(self._tree, self._session, *self._seen)
        return self._watch.descriptor() if self._watch is not None and self._watch.key == key else None

    def notifier(self, key: str) -> LeaseWatch:
        """Return a watch on the key by the session of its lease, which keeps its connection from now on."""
        from .watch import LeaseWatch

        self._listens_to = key
        return LeaseWatch(self._tree, key, self._leases)

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: sessions outlive a restart of their server."""

    def close(self) -> None:
        """Drop the connections, not the sessions of leases: a lease that was not ended lapses."""
        self._drop_last_read()
        self._session.end()
        for session in self._leases.values():
            session.drop()
        self._leases.clear()

    def _drop_last_read(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch = self._seen = None
