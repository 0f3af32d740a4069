"""A standby's watch on its key: the session of the claim that was refused, kept to be told of changes.

While nothing changes each look is one read of the lease's node, which is also the session's sign of
life; a renewal does not wake anybody. What is seen here may be a moment old, so it only refuses.
"""

from __future__ import annotations

import os

from kazoo.protocol.serialization import Exists, GetChildren2, GetData

from ...errors import BackendUnavailable
from ...lease.vocabulary import HELD
from .session import NO_NODE, OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.clock import SystemClock
    from ...lease.vocabulary import Claim, Conflict
    from .entry import Entry
    from .session import Reply, Session
    from .tree import Tree

    #: The session of a claim, its key, the key as the claim saw it, and when that was by this machine's clock.
    Refusal = tuple[Session, str, Entry, float]

#: For how many seconds the session should last without a look: what servers allow by default.
_LASTING = 40.0


class Watch:
    """A watch on one key. Its session is its own."""

    __slots__ = ("_ahead", "_clock", "_entry", "_ready", "_session", "_set", "_tree", "key")

    def __init__(self, tree: Tree, clock: SystemClock, refusal: Refusal) -> None:
        """Asks nothing yet."""
        self._tree = tree
        self._clock = clock
        self._session, self.key, self._entry, seen = refusal
        #: How far the leader's clock is ahead of this machine's since boot, in milliseconds, or more.
        self._ahead = self._entry.now - 1000 * seen
        #: Whether the server was asked to tell of changes to `_entry`, and there was none by then.
        self._set = False
        #: A descriptor that can be read at once, if one was given out.
        self._ready: int | None = None

    def descriptor(self) -> int:
        """Return what can be read once the key is not as it was seen last; raise BackendUnavailable for no answer."""
        self._close_ready()
        if not self._set:
            if self._session.timeout < _LASTING:
                self._session.drop()  # How long it lasts is agreed on when it is opened.
            with self._tree.opened(self._session, _LASTING) as session:
                self._set = self._unchanged(session.ask(self._question())[0])
        if self._set and not self._session.told():
            return self._session.descriptor()
        self._ready, other = os.pipe()
        os.write(other, b"!")
        os.close(other)
        return self._ready

    def conflict(self, claim: Claim, deadline: float) -> Conflict | None:
        """Return why `claim`, a standby's, is refused; None if it may be granted, or nothing is known.

        Monotonic time `deadline` is when there must be an answer.
        """
        self._close_ready()
        if not self._set:
            return None
        try:
            with self._session as session:
                session.go_on(deadline)
                conflict = self._quick_conflict(claim) or self._fresh_conflict(claim)
                if conflict is not None and conflict.why == HELD and not conflict.remaining:
                    conflict.remaining = self._tree.lease_left(session, self.key, self._entry)
                return conflict
        except BackendUnavailable:
            return None

    def end(self) -> None:
        """End the session."""
        self._close_ready()
        self._session.end()

    def _question(self) -> GetChildren2 | GetData:
        """Return the question whose answer changes when the key does: a lease's coming and going, or a hold's."""
        path = self._tree.path(self.key)
        return GetChildren2(path, True) if self._entry.live else GetData(path, True)

    def _unchanged(self, reply: Reply) -> bool:
        if reply.code == NO_NODE:
            return False
        names_or_text, stat = self._tree.value(reply, self._tree.path(self.key))
        # Of the same version there is at most the one lease, and that may have lapsed.
        lapsed = self._entry.live and not names_or_text
        return bool(stat.version == self._entry.version and not lapsed)

    def _quick_conflict(self, claim: Claim) -> Conflict | None:
        """Return the conflict with a lease that is still there, by one read; None if something changed."""
        if not self._entry.live or self._session.told():
            return None
        path = self._tree.lease_path(self.key, self._entry.owner)
        reply = self._session.ask(Exists(path, None))[0]
        if reply.code != OK or self._session.told():
            return None
        # What was seen first may have been no newer than the lease's last renewal.
        self._ahead = max(self._ahead, reply.value.mtime - 1000 * self._clock.now())
        conflict = self._entry.conflict(claim)
        if conflict is not None and conflict.why == HELD:
            conflict.remaining = self._entry.lease_left(reply.value, self._now())
        return conflict

    def _fresh_conflict(self, claim: Claim) -> Conflict | None:
        """Return the conflict with the key as this server has it now, and watch that; None if there is none."""
        path = self._tree.path(self.key)
        self._session.warned = self._set = False
        data, children = self._session.ask(GetData(path, None), GetChildren2(path, True))
        if data.code == NO_NODE:
            return None
        entry = self._tree.entry(self.key, data, children, now=round(self._now()), zxid=data.zxid)
        if entry is None:
            return None
        self._entry, self._set = entry, entry.live
        return entry.conflict(claim)

    def _now(self) -> float:
        """Return the leader's time in milliseconds, as far as this machine's clock can tell."""
        return self._ahead + 1000 * self._clock.now()

    def _close_ready(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None
