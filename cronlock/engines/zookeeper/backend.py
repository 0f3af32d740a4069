"""ZooKeeper: a lease is an ephemeral node, so that it ends with the session of the run that made it.

Under the prefix each key has a persistent node with its record, and below that an ephemeral node
named by the owner while a lease is out. Whatever changes a key is one transaction that names the
version of the record that it was decided on: of several that decide on the same version one is
carried out, and a duplicate that arrives late is refused. Hence owner-named nodes suffice for
mutual exclusion: a grant needs a version at which there was no lease, and every grant moves it on.

The protocol is spoken here, with kazoo's messages but without its client, which keeps threads and
connections, queues requests across sessions, hides how long a session lasts and reads any length
that a server names. Each claim has a session of its own, and nothing moves from one to another.

How long a lease lasts: the leader ends a session that was not heard of for the time agreed on when
it was opened (2 to 20 ticks of the server). A *request* through a follower does not count there: the
follower reports which sessions it heard of with its next heartbeat, and may be cut off before. Only
opening and reopening a session is told to the leader at once. So a renewal reopens the session and
then writes to the lease's node: the first starts the time anew at the leader, and the second, which
needs a quorum behind the same leader, shows that this leader was no deposed one. From the first
renewal on no connection is kept, so that long runs do not use up the servers' maxClientCnxns.

Holds are measured by the leader's clock, which shows in the times of nodes: a look at a key first
writes to the node ``~clock``. That write also makes the look current. Who finds a lease needs neither:
of a fleet that asks at once all but one do, and each write costs a quorum. So a claim begins with a
glance, a read behind a ``sync``. It shows what was committed when its session was opened, or later, unless
the leader was deposed and has not noticed; and it can only refuse. The fence is the
ensemble's own transaction number, or one more than the last fence where that is larger: no clock
can set it back, and it goes on when a key's node was deleted.

With user and password in the URL (the digest scheme) nodes are open to their creator only; without,
to everybody who reaches the servers. Only TLS hides the password on its way.

The runs of the past are in a node beside the key's, ``~history.`` and its name, which is written in
the same transaction as the end of a run. Only who gets the key reads it, behind its grant.

A claim that is refused leaves its session open, for `watch`, until the next request or `close`. A
watch answers standbys only, from what a follower may have seen a moment ago: it can refuse, and only
a look as above with a session of its own can grant.

Nodes of keys stay for ever: ZooKeeper collects unused nodes only with options that servers do not
have by default. One that has had no child for long may be deleted by hand, with its history.
"""

from __future__ import annotations

import time

from kazoo.protocol.serialization import Create, Delete, SetData

from ...lease.clock import SystemClock
from ...lease.record import released
from ...lease.vocabulary import ENDED, HELD, Claim, Conflict, Ending, Grant, Record, Traits
from .entry import Entry
from .history import cut_off
from .session import OK, Session, SessionOver
from .tree import EPHEMERAL, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.vocabulary import Run
    from ..url import URL
    from .watch import Refusal, Watch

_ANY_VERSION = -1


def open_backend(url: URL, timeout: float) -> ZooKeeper:
    """Return the backend for a zookeeper:// or zookeepers:// URL; raise ConfigError for a bad one."""
    return ZooKeeper(url, timeout)


class ZooKeeper:
    """Leases on a ZooKeeper ensemble."""

    traits = Traits(fencing=True, shortest_ttl=2.0, longest_ttl=365 * 86400.0)

    def __init__(self, url: URL, timeout: float) -> None:
        self.notices: list[str] = []
        self._tree = Tree(url, timeout)
        self._clock = SystemClock()
        #: Sessions of claims whose lease is out, or may be: the answer never came.
        self._sessions: dict[str, Session] = {}
        #: The claim refused last, and what watches its key, with its session.
        self._refusal: Refusal | None = None
        self._watch: Watch | None = None

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `cronlock.lease.vocabulary.Backend`."""
        deadline = time.monotonic() + self._tree.timeout
        conflict = self._ask_watch(claim, deadline)
        if conflict is not None:
            return conflict
        self._forget_refusal()
        session = self._sessions.setdefault(claim.owner, Session(self._tree.name))
        session.drop()  # The time of a lease that was granted before starts anew, as in `renew`.
        with self._tree.opened(session, claim.ttl, deadline=deadline):
            while True:
                conflict = self._glance(session, claim)
                if conflict is not None:
                    return conflict
                entry = self._look(session, claim)
                if entry is None:
                    self._finish(session, claim.owner)
                    return Conflict(ENDED, remaining=0.0)
                if entry.ours(claim, session):
                    entry.history = self._tree.history(session, claim.key)
                    return self._granted(claim, session, entry)
                conflict = entry.conflict(claim)
                if conflict is not None:
                    if conflict.why == HELD:
                        conflict.remaining = self._tree.lease_left(session, claim.key, entry)
                    self._refuse(session, claim, entry)
                    return conflict
                previous = None if entry.owner == claim.owner else entry.latest
                if self._take(session, claim, entry):
                    return self._granted(claim, session, entry, previous)

    def renew(self, grant: Grant) -> bool:
        """Start the lease's time anew; see `cronlock.lease.vocabulary.Backend`.

        Lowers `grant.ttl` when the server that was reached now keeps sessions for a shorter time.
        """
        token = _token(grant)
        if token is None or not token.session.id:
            return False
        session = token.session
        session.drop()  # Only reopening it counts at the leader; see above.
        try:
            with self._tree.opened(session, grant.claim.ttl, renewed=True):
                grant.ttl = min(grant.ttl, session.timeout)
                lease = self._tree.lease_path(grant.claim.key, grant.claim.owner)
                reply = session.ask(SetData(lease, b"", _ANY_VERSION))[0]
                session.drop()
        except SessionOver:
            return False
        return reply.code == OK and self._tree.value(reply, lease).ephemeralOwner == session.id

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; see `cronlock.lease.vocabulary.Backend`."""
        claim = grant.claim
        token = _token(grant)
        if token is None or token.released:
            return False
        session = token.session
        entry: Entry | None = token.entry
        done = False
        with self._tree.opened(session, claim.ttl):
            while not done:
                if entry is None:
                    entry = self._tree.find(session, claim.key, with_history=True)
                    if entry is None or not entry.live or entry.owner != claim.owner:
                        # Perhaps released already, and only the answer was lost.
                        done = entry is not None and entry.last is not None and entry.last.owner == claim.owner
                        break
                ended_at = token.started_at + self._clock.now() - token.taken_at
                done = self._end(session, claim, entry, ending, ended_at, keep_hold=keep_hold)
                entry = None
            self._finish(session, claim.owner)
        token.released = True
        return done

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came; see `cronlock.lease.vocabulary.Backend`."""
        session = self._sessions.get(claim.owner) or Session(self._tree.name)
        with self._tree.opened(session, claim.ttl):
            while True:
                entry = self._tree.look(session, claim.key)
                leased = entry.owner == claim.owner and entry.live
                remove = [Delete(self._tree.lease_path(claim.key, claim.owner), _ANY_VERSION)] if leased else []
                # Writing also moves the version on, so that a transaction still under way is refused.
                if self._tree.change(session, claim.key, entry, entry.after_abandon(claim.owner), *remove) == OK:
                    break
            self._finish(session, claim.owner)

    def read(self, key: str) -> Record | None:
        """Return what is known of the key; see `cronlock.lease.vocabulary.Backend`."""
        session = Session(self._tree.name)
        with self._tree.opened(session, self._tree.timeout):
            entry = self._tree.find(session, key, with_history=True)
            remaining = self._tree.lease_left(session, key, entry) if entry is not None and entry.live else 0.0
            session.end()
        if entry is None or entry.latest is None or entry.history is None:
            return None
        return Record(
            run=released(entry.run, by_force=entry.forced_out),
            remaining=remaining,
            hold_remaining=entry.hold_left(),
            last=entry.last,
            # A takeover that was given up wrote down the death of a run that can still be taken over.
            history=[run for run in entry.history.runs(entry.last) if run.owner != entry.owner],
            success=entry.history.success(entry.last),
        )

    def watch(self, key: str) -> int | None:
        """Return a descriptor that can be read once the key may have changed; see `cronlock.lease.vocabulary.Backend`.

        None if no claim on it was refused just before. Raises BackendUnavailable when it cannot be
        watched. The next request should follow within a third of the time that the servers keep
        sessions (40 s by default); after all of it the descriptor can be read for that.
        """
        if self._refusal is not None:
            from .watch import Watch

            self._watch, self._refusal = Watch(self._tree, self._clock, self._refusal), None
        if self._watch is None or self._watch.key != key:
            return None
        return self._watch.descriptor()

    def keys(self) -> Iterator[str]:
        """List the keys that have a node."""
        session = Session(self._tree.name)
        with self._tree.opened(session, self._tree.timeout):
            keys = self._tree.keys(session)
            session.end()
        return keys

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; see `cronlock.lease.vocabulary.Backend`."""
        session = Session(self._tree.name)
        taken = done = False
        with self._tree.opened(session, self._tree.timeout):
            while not done:
                entry = self._tree.find(session, key)
                if entry is None or entry.latest is None or entry.latest.owner != owner:
                    taken = False
                    break
                taken = entry.live or bool(entry.hold_left())
                if not taken and entry.run is None:
                    break
                remove = [Delete(self._tree.lease_path(key, owner), _ANY_VERSION)] if entry.live else []
                # Also if nothing is left to take: a standby must not take over what somebody let go.
                done = self._tree.change(session, key, entry, entry.after_force(), *remove) == OK
            session.end()
        return taken

    def close(self) -> None:
        """Drop the connections, not the sessions of leases: one that was not released lapses in its time."""
        self._forget_refusal()
        for session in self._sessions.values():
            session.drop()
        self._sessions.clear()

    def _ask_watch(self, claim: Claim, deadline: float) -> Conflict | None:
        """Return the conflict that a standby's watch sees, None where a look must tell."""
        if self._watch is None or self._watch.key != claim.key:
            return None
        if claim.standby_for is None or claim.owner in self._sessions:
            return None
        return self._watch.conflict(claim, deadline)

    def _glance(self, session: Session, claim: Claim) -> Conflict | None:
        """Return the conflict with a lease that is out, None where a look must tell; see above."""
        if claim.standby_for is not None:
            return None
        entry = self._tree.glance(session, claim.key)
        if entry is None or entry.ours(claim, session):
            return None
        conflict = entry.conflict(claim)
        if conflict is None or conflict.why != HELD:
            return None
        conflict.remaining = entry.timeout
        self._refuse(session, claim, entry)
        return conflict

    def _refuse(self, session: Session, claim: Claim, entry: Entry) -> None:
        """Keep the claim's session for a watch of the key."""
        self._sessions.pop(claim.owner)
        self._refusal = session, claim.key, entry, self._clock.now()

    def _look(self, session: Session, claim: Claim) -> Entry | None:
        """Return the claim's key as it is now; None if it has no node and gets none, being to be taken over."""
        if claim.standby_for is not None:
            return self._tree.find(session, claim.key)
        return self._tree.look(session, claim.key)

    def _take(self, session: Session, claim: Claim, entry: Entry) -> bool:
        """Grant the key to `claim` if it is still as `entry` says; then `entry` says so too."""
        run = entry.granted_run(claim, session)
        text = entry.after_grant(run, session, claim.hold)
        parts = [Create(self._tree.lease_path(claim.key, claim.owner), b"", self._tree.acl, EPHEMERAL)]
        dead = entry.run if entry.owner != claim.owner else None
        if dead is not None:
            history = self._tree.history(session, claim.key)
            text_after = history.text_with(cut_off(dead, by_force=entry.forced_out), entry.last)
            parts.append(self._tree.write_history(claim.key, history, text_after))
        if self._tree.change(session, claim.key, entry, text, *parts, learn=True) != OK:
            return False
        entry.read_text(text)
        entry.live = True
        return True

    def _end(
        self, session: Session, claim: Claim, entry: Entry, ending: Ending, ended_at: float, *, keep_hold: bool
    ) -> bool:
        """Record the end of the claim's run and remove its lease, if the key is still as `entry` says."""
        text = entry.after_release(ending, ended_at, keep_hold)
        parts = [Delete(self._tree.lease_path(claim.key, claim.owner), _ANY_VERSION)]
        run, history = entry.run, entry.history
        assert run is not None
        assert history is not None
        parts.append(self._tree.write_history(claim.key, history, history.text_with(run, entry.last)))
        return self._tree.change(session, claim.key, entry, text, *parts) == OK

    def _granted(self, claim: Claim, session: Session, entry: Entry, previous: Run | None = None) -> Grant:
        return Grant(
            claim,
            fence=entry.fence,
            ttl=min(claim.ttl, session.timeout),
            token=_Token(session, entry, self._clock.now()),
            previous=previous,
            took_over=entry.run.took_over if entry.run is not None else None,
        )

    def _finish(self, session: Session, owner: str) -> None:
        """End a session that has no lease any more."""
        session.end()
        self._sessions.pop(owner, None)

    def _forget_refusal(self) -> None:
        """End the session that the claim refused last has left."""
        if self._refusal is not None:
            self._refusal[0].end()
        if self._watch is not None:
            self._watch.end()
        self._refusal = self._watch = None


class _Token:
    """What a grant needs for its renewals and its release."""

    __slots__ = ("entry", "owner", "released", "session", "started_at", "taken_at")

    def __init__(self, session: Session, entry: Entry, taken_at: float) -> None:
        self.session = session
        #: The key as the grant left it.
        self.entry = entry
        self.owner = entry.owner
        #: The moment of the grant by the leader's clock, and by this machine's since boot.
        self.started_at = entry.run.started_at if entry.run is not None else 0.0
        self.taken_at = taken_at
        self.released = False


def _token(grant: Grant) -> _Token | None:
    """Return the grant's token, None if it belongs to another's grant."""
    token = grant.token
    return token if isinstance(token, _Token) and token.owner == grant.claim.owner else None
