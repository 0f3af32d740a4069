"""A watch on a key, by the session that read it, for the end of a lease or a hold.

While nothing changes, each poll is one read of the lease's node, which also keeps the session alive; a renewal wakes no
standby. The reply may be a moment old, so it proves only that the lease still exists.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable
from ...system import os
from .cell import NodeCell
from .messages import Exists, GetChildren2, GetData
from .session import NO_NODE, OK
from .tree import LASTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.store import Cell
    from .session import Reply, Session
    from .tree import Tree


class Watch:
    """A watch on one key, until the session sends another request."""

    __slots__ = ("_ahead", "_cell", "_ready", "_session", "_set", "_tree", "key")

    def __init__(self, tree: Tree, session: Session, key: str, cell: NodeCell) -> None:
        """Sends no request yet."""
        self._tree = tree
        self._session = session
        self.key = key
        self._cell = cell
        #: A lower bound of how far the leader's clock is ahead of this machine's, in milliseconds.
        self._ahead = cell.leader_time - 1000 * cell.seen_at
        #: True if the watch was set, and the cell had not changed by then.
        self._set = False
        #: A descriptor that is readable at once, if one was returned.
        self._ready: int | None = None

    def descriptor(self) -> int:
        """Return a descriptor that becomes readable when the key changes; raises BackendUnavailable."""
        self.close()
        if not self._set:
            if self._session.asked < LASTING:
                self._session.drop()  # How long it lasts is agreed on when it is opened.
            with self._tree.opened(self._session, LASTING) as session:
                session.event_seen = False
                self._set = self._unchanged(session.ask(self._request())[0])
        if self._set and not self._session.notified():
            return self._session.descriptor()
        self._ready, other = os.pipe()
        os.write(other, b"!")
        os.close(other)
        return self._ready

    def look(self, deadline: float) -> NodeCell | None:
        """Return the cell if its lease still exists, by one read; None if something changed or the read failed.

        Monotonic time `deadline` is when there must be an answer.
        """
        self.close()
        if not self._set or not self._cell.lease or self._session.notified():
            return None
        path = self._tree.lease_path(self.key, self._cell.lease_name)
        try:
            with self._session as session:
                session.go_on(deadline)
                reply = session.ask(Exists(path))[0]
        except BackendUnavailable:
            return None
        if reply.code != OK or self._session.notified():
            return None
        # The first read may have been as old as the lease's last renewal.
        self._ahead = max(self._ahead, reply.value.mtime - 1000 * time.monotonic())
        now = self._ahead + 1000 * time.monotonic()
        cell = self._cell
        return cell.but(lease=cell.lease_left(reply.value.mtime, now), hold=cell.hold_left(now), time=None)

    def close(self) -> None:
        """Close the descriptor that was readable at once, but not the session, which is the store's."""
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None

    def _request(self) -> GetChildren2 | GetData:
        """Return the read that sets the watch: its result changes when lease or hold ends."""
        path = self._tree.path(self.key)
        return GetChildren2(path, True) if self._cell.lease else GetData(path, True)

    def _unchanged(self, reply: Reply) -> bool:
        if reply.code == NO_NODE:
            return False
        names_or_text, stat = self._tree.value(reply, self._tree.path(self.key))
        if self._cell.lease:
            return self._cell.lease_name in names_or_text
        return bool((stat.czxid, stat.version) == self._cell.version)


class LeaseWatch:
    """The `Notifier` of one key: a watch on its record by the session of the lease, set again after each swap."""

    def __init__(self, tree: Tree, key: str, leases: dict[str, Session]) -> None:
        self._tree = tree
        self._key = key
        #: The sessions of leases, by key.
        self._leases = leases

    def listen(self, seen: Cell, deadline: float) -> tuple[int | None, bool]:
        """Set the watch on the server that executed the last swap."""
        own = self._leases.get(self._key)
        if own is None or not isinstance(seen, NodeCell):
            return None, False
        path = self._tree.path(self._key)
        with own as session:
            session.go_on(deadline)
            session.event_seen = False
            reply = session.ask(GetData(path, True))[0]
            stat = None if reply.code == NO_NODE else self._tree.value(reply, path)[1]
            changed = stat is None or (stat.czxid, stat.version) != seen.node
            return session.descriptor(), changed or session.notified()

    def heard(self, seen: Cell, deadline: float) -> bool:  # noqa: ARG002 (it was set after the run's own swap)
        """Consume the event."""
        own = self._leases.get(self._key)
        if own is None:
            return False
        with own as session:
            session.hear(deadline)
        return True

    def notify(self, deadline: float) -> bool:  # noqa: ARG002 (the servers do)
        """Return True: the servers notify watches by themselves."""
        return True

    def close(self) -> None:
        """Do nothing: the connection is that of the lease."""
