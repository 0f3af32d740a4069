"""The nodes that leases in ZooKeeper are made of, and the way to the servers that keep them."""

from __future__ import annotations

import time

from kazoo.protocol.serialization import Create, Exists, GetChildren2, GetData, SetData, Sync, Transaction
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...keys import escape, unescape
from ...lease import record
from ..wire.stream import TLS_PARAMS, Stream, patiently, tls_context
from .entry import Entry
from .history import History
from .session import (
    BAD_VERSION,
    EPHEMERAL_PARENT,
    EXPIRED,
    NO_AUTH,
    NO_NODE,
    NODE_EXISTS,
    NOT_TRIED,
    OK,
    ROLLED_BACK,
    Reply,
    Session,
    SessionOver,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..url import URL

DEFAULT_PORT = 2181
EPHEMERAL = 1
_ANY_VERSION = -1
# Never names of keys, to older programs neither: `escape` makes no "~".
_CLOCK = "~clock"
_HISTORY = "~history."


class Tree:
    """The servers of one URL and the nodes below its prefix."""

    def __init__(self, url: URL, timeout: float) -> None:
        """Raises ConfigError for a URL that says what cannot be."""
        secure = url.scheme == "zookeepers"
        params = url.take_params(("prefix", *(TLS_PARAMS if secure else ())))
        if (url.user is None) != (url.password is None):
            raise ConfigError(f"{url}: give user and password, or neither: {url.scheme}://USER:PASSWORD@HOST")
        self.name = str(url)
        #: The limit of one request, in seconds.
        self.timeout = timeout
        self.acl = OPEN_ACL_UNSAFE if url.user is None else CREATOR_ALL_ACL
        self._hosts = url.need_hosts(DEFAULT_PORT)
        # Nodes do not all ask the same server first; after a failure the next one is.
        self._turn = time.time_ns() // 1000
        self._tls = tls_context(self.name, params) if secure else None
        self._base = _base(url)
        self._credentials = None if url.user is None else f"{url.user}:{url.password}"
        self._clock_path = f"{self._base}/{_CLOCK}"

    # The way.

    def opened(
        self, session: Session, lasting: float, *, renewed: bool = False, deadline: float | None = None
    ) -> Session:
        """Return `session` connected to one of the servers, for use in `with`.

        One that is over begins anew, or raises SessionOver where it was to be `renewed`. Monotonic
        time `deadline` is when all must be done, unless the time limit of a request says so.
        """
        if deadline is None:
            deadline = time.monotonic() + self.timeout
        if not session.resume(deadline):
            try:
                patiently(deadline, lambda: self._connect(session, lasting, deadline))
            except SessionOver:
                if renewed:
                    raise
                session.forget()
                patiently(deadline, lambda: self._connect(session, lasting, deadline))
        return session

    def _connect(self, session: Session, lasting: float, deadline: float) -> None:
        """Try each server once; a hung one uses up its share of the time only."""
        for left in range(len(self._hosts), 0, -1):
            now = time.monotonic()
            try:
                host, port = self._hosts[self._turn % len(self._hosts)]
                place = f"{self.name.partition('://')[0]}://{host}:{port}"
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

    # Looks.

    def look(self, session: Session, key: str) -> Entry:
        """Return the key as it is now, once it has a node."""
        while True:
            entry = self.find(session, key)
            if entry is not None:
                return entry
            self._make(session, key)

    def find(self, session: Session, key: str, *, with_history: bool = False) -> Entry | None:
        """Return the key as it is now, None if it has no node."""
        path = self.path(key)
        # Between the two others, which must show the same version: so it belongs to that.
        past = [GetData(self._history_path(key), None)] if with_history else []
        while True:
            clock, data, *middle, children = session.ask(
                SetData(self._clock_path, b"", _ANY_VERSION), GetData(path, None), *past, GetChildren2(path, None)
            )
            if data.code == NO_NODE:
                return None
            if clock.code == NO_NODE:
                self._make(session, key)
                continue
            now = self.value(clock, self._clock_path).mtime
            entry = self.entry(key, data, children, now=now, zxid=clock.zxid)
            if entry is not None:
                for reply in middle:
                    entry.history = self._history(key, reply)
                return entry

    def glance(self, session: Session, key: str) -> Entry | None:
        """Return the key with its lease if one is out, without a write; None where a look must tell.

        It takes the time of the lease's last renewal for now: so long, at the most, the lease may last.
        """
        path = self.path(key)
        synced, data, children = session.ask(Sync(path), GetData(path, None), GetChildren2(path, None))
        if NO_NODE in (synced.code, data.code):
            return None
        entry = self.entry(key, data, children, now=0, zxid=data.zxid)
        if entry is None or not entry.live:
            return None
        lease = session.ask(Exists(self.lease_path(key, entry.owner), None))[0]
        if lease.code == NO_NODE:
            return None
        entry.now = self.value(lease, path).mtime
        return entry

    def entry(self, key: str, data: Reply, children: Reply, *, now: int, zxid: int) -> Entry | None:
        """Return the key as a server's two answers say, None where these are of two versions.

        Raises ForeignValue if its node is not cronlock's.
        """
        path = self.path(key)
        text, stat = self.value(data, path)
        # It was deleted in between.
        names, later_stat = ([], None) if children.code == NO_NODE else self.value(children, path)
        if later_stat is None or stat.version != later_stat.version:
            return None
        try:
            return Entry(text or b"", names, stat, now=now, zxid=zxid)
        except ForeignValue as error:
            raise ForeignValue(f"{self.name}: key {key!r}: the node {path} is {error}") from None

    def history(self, session: Session, key: str) -> History:
        """Return the runs before now. It changes only where the key's version does, too."""
        return self._history(key, session.ask(GetData(self._history_path(key), None))[0])

    def lease_left(self, session: Session, key: str, entry: Entry) -> float:
        """Return how many seconds the lease that `entry` shows lasts unless it is renewed."""
        path = self.lease_path(key, entry.owner)
        reply = session.ask(Exists(path, None))[0]
        return 0.0 if reply.code == NO_NODE else entry.lease_left(self.value(reply, path), entry.now)

    def keys(self, session: Session) -> Iterator[str]:
        """Return the keys that have a node."""
        reply = session.ask(GetChildren2(self._base, None))[0]
        names = [] if reply.code == NO_NODE else self.value(reply, self._base)[0]
        return filter(None, map(_key, names))

    # Changes.

    def change(self, session: Session, key: str, entry: Entry, text: bytes, *more: Any, learn: bool = False) -> int:
        """Replace the record that `entry` read and do `more`, all or nothing; return the server's code.

        That is OK (then `entry` has the new version), or says that the key is no longer so. With
        `learn`, `entry` gets the history too, by the same round trip.
        """
        path = self.path(key)
        behind = [GetData(self._history_path(key), None)] if learn else []
        reply, *later = session.ask(Transaction([SetData(path, text, entry.version), *more]), *behind)
        if reply.code == OK:
            # Where one part fails, those before it say "rolled back" and those after it "not tried".
            codes = [getattr(result, "code", OK) for result in reply.value if isinstance(result, Exception)]
            reply.code = next((code for code in codes if code not in (ROLLED_BACK, NOT_TRIED)), OK)
            if reply.code == OK:
                try:
                    entry.version, entry.changed = reply.value[0].version, reply.value[0].mtime
                except (LookupError, AttributeError) as error:
                    raise BackendUnavailable(f"{self.name}: the server's answer makes no sense") from error
                for answer in later:
                    entry.history = self._history(key, answer)
        if reply.code not in (NO_NODE, BAD_VERSION, NODE_EXISTS):
            self.value(reply, path)
        return reply.code

    def write_history(self, key: str, history: History, text: bytes) -> Any:
        """Return the part of a change that replaces `history` by `text`."""
        path = self._history_path(key)
        return SetData(path, text, _ANY_VERSION) if history.exists else Create(path, text, self.acl, 0)

    def _make(self, session: Session, key: str) -> None:
        """Make the key's node and the clock's, with their parents."""
        parts = self._base.split("/")[1:]
        paths = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))] + [self._clock_path, self.path(key)]
        text = record.encode({"fence": "0"})
        replies = session.ask(*(Create(path, b"" if path != paths[-1] else text, self.acl, 0) for path in paths))
        # A parent that is there may be closed to us and yet serve; one that is missing may not.
        made = replies[-1].code in (OK, NODE_EXISTS) and replies[-2].code in (OK, NODE_EXISTS)
        for path, reply in zip(paths, replies):
            if not made and reply.code != NODE_EXISTS:
                self.value(reply, path)

    # Answers and names.

    def value(self, reply: Reply, path: str) -> Any:
        """Return what the server answered; raise what its error means."""
        if reply.code == OK:
            return reply.value
        if reply.code == NO_AUTH:
            raise BackendUnavailable(
                f"{self.name}: no access to {path}: authentication failed, or the node belongs to another user;"
                " check user and password in the URL"
            )
        if reply.code == EPHEMERAL_PARENT:
            raise ForeignValue(f"{self.name}: the node {path} or one above it is ephemeral: not cronlock's")
        if reply.code == EXPIRED:
            raise SessionOver(f"{self.name}: the session is over")
        raise BackendUnavailable(f"{self.name}: the server answered with error {reply.code} for {path}")

    def _history(self, key: str, reply: Reply) -> History:
        return History(None if reply.code == NO_NODE else self.value(reply, self._history_path(key))[0] or b"")

    def path(self, key: str) -> str:
        """Return the path of the key's node."""
        return f"{self._base}/{escape(key)}"

    def lease_path(self, key: str, owner: str) -> str:
        """Return the path of the node that is the lease of `owner`."""
        return f"{self.path(key)}/{escape(owner)}"

    def _history_path(self, key: str) -> str:
        return f"{self._base}/{_HISTORY}{escape(key)}"


def _key(name: str | None) -> str:
    """Return the key of a node's name; empty for what is somebody else's, the clock's or a history's."""
    try:
        key = unescape(name or "")
        return key if escape(key) == name else ""
    except ValueError:
        return ""


def _base(url: URL) -> str:
    """Return the path of the node that keys live under; raise ConfigError for a bad chroot or prefix."""
    prefix = url.prefix()
    parts = url.path.strip("/").split("/") if url.path.strip("/") else []
    parts.append(prefix)
    if parts[0] == "zookeeper" or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        path = "/".join(parts)
        raise ConfigError(f"{url}: chroot and prefix make the path {'/' + path!r}, which ZooKeeper does not take")
    return "/" + "/".join(parts)
