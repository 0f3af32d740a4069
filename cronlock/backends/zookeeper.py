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

Holds are measured by the leader's clock, which shows in the times of nodes: every look at a key
first writes to the node ``~clock``. That write also makes the look current. The fence is the
ensemble's own transaction number, or one more than the last fence where that is larger: no clock
can set it back, and it goes on when a key's node was deleted.

With user and password in the URL (the digest scheme) nodes are open to their creator only; without,
to everybody who reaches the servers. Only TLS hides the password on its way.

Nodes of keys stay for ever: ZooKeeper collects unused nodes only with options that servers do not
have by default. A node that has had no child for long may be deleted by hand.
"""

from __future__ import annotations

import time

from kazoo.protocol.serialization import Create, Delete, Exists, GetChildren2, GetData, SetData, Transaction
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from .. import record
from ..clock import SystemClock
from ..errors import BackendUnavailable, ConfigError, ForeignValue
from ..keys import escape, unescape
from ..lease import HELD, Claim, Conflict, Ending, Grant, Record, Run, Traits
from .network import TLS_PARAMS, Stream, tls_context
from .url import URL
from .zkentry import Entry
from .zksession import Reply, Session, SessionOver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DEFAULT_PORT = 2181
_EPHEMERAL = 1
_ANY_VERSION = -1
# Never the name of a key: `escape` makes no "~".
_CLOCK = "~clock"

# The servers' error codes that mean something here.
_OK, _ROLLED_BACK, _NOT_TRIED = 0, 0, -2
_NO_NODE, _NO_AUTH, _BAD_VERSION, _EPHEMERAL_PARENT, _NODE_EXISTS = -101, -102, -103, -108, -110
_EXPIRED = -112


def open_backend(url: URL, timeout: float) -> ZooKeeper:
    """Return the backend for a zookeeper:// or zookeepers:// URL; raise ConfigError for a bad one."""
    return ZooKeeper(url, timeout)


class ZooKeeper:
    """Leases on a ZooKeeper ensemble."""

    traits = Traits(fencing=True, shortest_ttl=2.0, longest_ttl=365 * 86400.0)

    def __init__(self, url: URL, timeout: float) -> None:
        secure = url.scheme == "zookeepers"
        params = url.take_params(("prefix", *(TLS_PARAMS if secure else ())))
        if (url.user is None) != (url.password is None):
            raise ConfigError(f"{url}: give user and password, or neither: {url.scheme}://USER:PASSWORD@HOST")
        self.notices: list[str] = []
        self._name = str(url)
        self._hosts = url.need_hosts(DEFAULT_PORT)
        # Nodes do not all ask the same server first; after a failure the next one is.
        self._turn = time.time_ns() // 1000
        self._timeout = timeout
        self._tls = tls_context(self._name, params) if secure else None
        self._base = _base(url)
        self._credentials = None if url.user is None else f"{url.user}:{url.password}"
        self._acl = OPEN_ACL_UNSAFE if url.user is None else CREATOR_ALL_ACL
        self._clock = SystemClock()
        self._clock_path = f"{self._base}/{_CLOCK}"
        #: Sessions of claims whose lease is out, or may be: the answer never came.
        self._sessions: dict[str, Session] = {}

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Take the key if it is free; see `cronlock.lease.Backend`."""
        session = self._sessions.setdefault(claim.owner, Session(self._name))
        session.drop()  # The time of a lease that was granted before starts anew, as in `renew`.
        with self._opened(session, claim.ttl):
            while True:
                entry = self._look(session, claim.key)
                if entry.ours(claim, session):
                    return self._granted(claim, session, entry)
                conflict = entry.conflict(claim)
                if conflict is not None:
                    if conflict.why == HELD:
                        conflict.remaining = self._lease_left(session, claim.key, entry)
                    self._finish(session, claim.owner)
                    return conflict
                if self._take(session, claim, entry):
                    return self._granted(claim, session, entry)

    def renew(self, grant: Grant) -> bool:
        """Start the lease's time anew; see `cronlock.lease.Backend`.

        Lowers `grant.ttl` when the server that was reached now keeps sessions for a shorter time.
        """
        token = _token(grant)
        if token is None or not token.session.id:
            return False
        session = token.session
        session.drop()  # Only reopening it counts at the leader; see above.
        try:
            with self._opened(session, grant.claim.ttl, renewed=True):
                grant.ttl = min(grant.ttl, session.timeout)
                lease = self._lease_path(grant.claim.key, grant.claim.owner)
                reply = session.ask(SetData(lease, b"", _ANY_VERSION))[0]
                session.drop()
        except SessionOver:
            return False
        return reply.code == _OK and self._value(reply, lease).ephemeralOwner == session.id

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """End our lease and record how the run ended; see `cronlock.lease.Backend`."""
        claim = grant.claim
        token = _token(grant)
        if token is None or token.released:
            return False
        session = token.session
        entry: Entry | None = token.entry
        with self._opened(session, claim.ttl):
            while True:
                if entry is None:
                    entry = self._find(session, claim.key)
                    if entry is None or not entry.live or entry.owner != claim.owner:
                        # Perhaps released already, and only the answer was lost.
                        done = entry is not None and entry.last is not None and entry.last.owner == claim.owner
                        break
                text = entry.after_release(ending, token.started_at + self._clock.now() - token.taken_at, keep_hold)
                code = self._change(
                    session, claim.key, entry, text, Delete(self._lease_path(claim.key, claim.owner), -1)
                )
                done = code == _OK
                if code != _BAD_VERSION:
                    break
                entry = None
            self._finish(session, claim.owner)
        token.released = True
        return done

    def abandon(self, claim: Claim) -> None:
        """Undo an `acquire` whose answer never came; see `cronlock.lease.Backend`."""
        session = self._sessions.get(claim.owner) or Session(self._name)
        with self._opened(session, claim.ttl):
            while True:
                entry = self._look(session, claim.key)
                leased = entry.owner == claim.owner and entry.live
                remove = [Delete(self._lease_path(claim.key, claim.owner), -1)] if leased else []
                # Writing also moves the version on, so that a transaction still under way is refused.
                if self._change(session, claim.key, entry, entry.after_abandon(claim.owner), *remove) == _OK:
                    break
            self._finish(session, claim.owner)

    def read(self, key: str) -> Record | None:
        """Return what is known of the key; see `cronlock.lease.Backend`."""
        session = Session(self._name)
        with self._opened(session, self._timeout):
            entry = self._find(session, key)
            remaining = self._lease_left(session, key, entry) if entry is not None and entry.live else 0.0
            session.end()
        if entry is None or (entry.run is None and entry.last is None):
            return None
        return Record(run=entry.run, remaining=remaining, hold_remaining=entry.hold_left(), last=entry.last)

    def keys(self) -> Iterator[str]:
        """List the keys that have a node."""
        session = Session(self._name)
        with self._opened(session, self._timeout):
            reply = session.ask(GetChildren2(self._base, None))[0]
            names = [] if reply.code == _NO_NODE else self._value(reply, self._base)[0]
            session.end()
        for name in names:
            try:
                key = unescape(name or "")
            except ValueError:
                continue
            # Other names than those of keys are somebody else's, or the clock's.
            if key and escape(key) == name:
                yield key

    def force_release(self, key: str, owner: str) -> bool:
        """Take the lease or the hold from `owner`; see `cronlock.lease.Backend`."""
        session = Session(self._name)
        done = False
        with self._opened(session, self._timeout):
            while not done:
                entry = self._find(session, key)
                if entry is None or not (entry.live or entry.hold_left()) or entry.holder() != owner:
                    break
                remove = [Delete(self._lease_path(key, owner), -1)] if entry.live else []
                done = self._change(session, key, entry, entry.after_force(), *remove) == _OK
            session.end()
        return done

    def close(self) -> None:
        """Drop the connections, not the sessions: a lease that was not released lapses in its time."""
        for session in self._sessions.values():
            session.drop()
        self._sessions.clear()

    def _opened(self, session: Session, lasting: float, *, renewed: bool = False) -> Session:
        """Return `session` connected to one of the servers, for use in `with`.

        One that is over begins anew, or raises SessionOver where it was to be `renewed`.
        """
        deadline = time.monotonic() + self._timeout
        if not session.resume(deadline):
            try:
                self._connect(session, lasting, deadline)
            except SessionOver:
                if renewed:
                    raise
                session.forget()
                self._connect(session, lasting, deadline)
        return session

    def _connect(self, session: Session, lasting: float, deadline: float) -> None:
        """Try each server once; a hung one uses up its share of the time only."""
        for left in range(len(self._hosts), 0, -1):
            now = time.monotonic()
            try:
                host, port = self._hosts[self._turn % len(self._hosts)]
                place = f"{self._name.partition('://')[0]}://{host}:{port}"
                share = now + (deadline - now) / left
                stream = Stream.connect_tcp(place, host, port, share, self._tls)
                session.open(stream, lasting, self._credentials)
                stream.limit(deadline)
                return
            except BackendUnavailable as error:
                session.drop()
                if isinstance(error, SessionOver):
                    raise
                self._turn += 1
                if left == 1:
                    raise

    def _look(self, session: Session, key: str) -> Entry:
        """Return the key as it is now, once it has a node."""
        while True:
            entry = self._find(session, key)
            if entry is not None:
                return entry
            self._make(session, key)

    def _find(self, session: Session, key: str) -> Entry | None:
        """Return the key as it is now, None if it has no node."""
        path = self._path(key)
        while True:
            clock, data, children = session.ask(
                SetData(self._clock_path, b"", _ANY_VERSION), GetData(path, None), GetChildren2(path, None)
            )
            if data.code == _NO_NODE:
                return None
            if clock.code == _NO_NODE:
                self._make(session, key)
                continue
            time_stat = self._value(clock, self._clock_path)
            text, stat = self._value(data, path)
            names, later_stat = ([], None) if children.code == _NO_NODE else self._value(children, path)
            # Children as of another version than the record's do not belong to it.
            if later_stat is not None and stat.version == later_stat.version:
                try:
                    return Entry(text or b"", names, stat, now=time_stat.mtime, zxid=clock.zxid)
                except ForeignValue as error:
                    raise ForeignValue(f"{self._name}: key {key!r}: the node {path} is {error}") from None

    def _make(self, session: Session, key: str) -> None:
        """Make the key's node and the clock's, with their parents."""
        parts = self._base.split("/")[1:]
        paths = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))] + [self._clock_path, self._path(key)]
        text = record.encode({"fence": "0"})
        replies = session.ask(*(Create(path, b"" if path != paths[-1] else text, self._acl, 0) for path in paths))
        # A parent that is there may be closed to us and yet serve; one that is missing may not.
        made = replies[-1].code in (_OK, _NODE_EXISTS) and replies[-2].code in (_OK, _NODE_EXISTS)
        for path, reply in zip(paths, replies):
            if not made and reply.code != _NODE_EXISTS:
                self._value(reply, path)

    def _take(self, session: Session, claim: Claim, entry: Entry) -> bool:
        """Grant the key to `claim` if it is still as `entry` says; then `entry` says so too."""
        floor = claim.sight.floor if claim.sight is not None else 0
        fence = max(entry.zxid, entry.fence + 1, floor + 1)
        run = Run(
            owner=claim.owner,
            host=claim.host,
            pid=claim.pid,
            program=claim.program,
            started_at=entry.now / 1000,
            ttl=min(claim.ttl, session.timeout),
            fence=fence,
        )
        text = entry.after_grant(run, session, claim.hold)
        lease = Create(self._lease_path(claim.key, claim.owner), b"", self._acl, _EPHEMERAL)
        if self._change(session, claim.key, entry, text, lease) != _OK:
            return False
        entry.read_text(text)
        entry.live = True
        return True

    def _change(self, session: Session, key: str, entry: Entry, text: bytes, *more: Any) -> int:
        """Replace the record that `entry` read and do `more`, all or nothing; return the server's code.

        That is _OK (then `entry` has the new version), or says that the key is no longer so.
        """
        path = self._path(key)
        reply = session.ask(Transaction([SetData(path, text, entry.version), *more]))[0]
        if reply.code == _OK:
            # Where one part fails, those before it say "rolled back" and those after it "not tried".
            codes = [getattr(result, "code", _OK) for result in reply.value if isinstance(result, Exception)]
            reply.code = next((code for code in codes if code not in (_ROLLED_BACK, _NOT_TRIED)), _OK)
            if reply.code == _OK:
                try:
                    entry.version, entry.changed = reply.value[0].version, reply.value[0].mtime
                except (LookupError, AttributeError) as error:
                    raise BackendUnavailable(f"{self._name}: the server's answer makes no sense") from error
        if reply.code not in (_NO_NODE, _BAD_VERSION, _NODE_EXISTS):
            self._value(reply, path)
        return reply.code

    def _granted(self, claim: Claim, session: Session, entry: Entry) -> Grant:
        return Grant(
            claim,
            fence=entry.fence,
            ttl=min(claim.ttl, session.timeout),
            token=_Token(session, entry, self._clock.now()),
        )

    def _finish(self, session: Session, owner: str) -> None:
        """End a session that has no lease any more."""
        session.end()
        self._sessions.pop(owner, None)

    def _lease_left(self, session: Session, key: str, entry: Entry) -> float:
        """Return how many seconds the lease that `entry` shows lasts unless it is renewed."""
        path = self._lease_path(key, entry.owner)
        reply = session.ask(Exists(path, None))[0]
        if reply.code == _NO_NODE:
            return 0.0
        # The leader rounds up to its tick: a lease that is due may be there for a moment.
        idle: float = (entry.now - self._value(reply, path).mtime) / 1000
        return max(0.1, entry.timeout - idle)

    def _value(self, reply: Reply, path: str) -> Any:
        """Return what the server answered; raise what its error means."""
        if reply.code == _OK:
            return reply.value
        if reply.code == _NO_AUTH:
            raise BackendUnavailable(
                f"{self._name}: no access to {path}: authentication failed, or the node belongs to another user;"
                " check user and password in the URL"
            )
        if reply.code == _EPHEMERAL_PARENT:
            raise ForeignValue(f"{self._name}: the node {path} or one above it is ephemeral: not cronlock's")
        if reply.code == _EXPIRED:
            raise SessionOver(f"{self._name}: the session is over")
        raise BackendUnavailable(f"{self._name}: the server answered with error {reply.code} for {path}")

    def _path(self, key: str) -> str:
        return f"{self._base}/{escape(key)}"

    def _lease_path(self, key: str, owner: str) -> str:
        return f"{self._path(key)}/{escape(owner)}"


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


def _base(url: URL) -> str:
    """Return the path of the node that keys live under; raise ConfigError for a bad chroot or prefix."""
    prefix = url.prefix()
    parts = url.path.strip("/").split("/") if url.path.strip("/") else []
    parts.append(prefix)
    if parts[0] == "zookeeper" or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        path = "/".join(parts)
        raise ConfigError(f"{url}: chroot and prefix make the path {'/' + path!r}, which ZooKeeper does not take")
    return "/" + "/".join(parts)
