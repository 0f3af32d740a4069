"""The nodes of cells and leases in ZooKeeper, and the connections to the servers."""

from __future__ import annotations

import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...keys import escape, key_of
from ..wire.stream import Stream, retry_while_busy, take_tls
from .cell import NodeCell, to_cell
from .messages import CREATOR_ACL, OPEN_ACL, Create, Delete, Exists, GetChildren2, GetData, SetData, Sync
from .session import (
    BAD_VERSION,
    EPHEMERAL_PARENT,
    EXPIRED,
    NO_AUTH,
    NO_NODE,
    NODE_EXISTS,
    OK,
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
ANY_VERSION = -1
#: The timeout in seconds to request for a session without a lease: the default ttl, so that most leases can use the
#: session unchanged.
LASTING = 300.0
# Never the name of a key: `escape` makes no "~".
_CLOCK = "~clock"


class Tree:
    """The servers of one URL and the nodes below its prefix."""

    def __init__(self, url: URL, timeout: float) -> None:
        """Raises ConfigError for a bad URL."""
        self._tls = take_tls(url, "prefix")
        url.check_credentials()
        self.name = str(url)
        #: The limit of one request, in seconds.
        self.timeout = timeout
        self.acl = OPEN_ACL if url.user is None else CREATOR_ACL
        self._hosts = url.need_hosts(DEFAULT_PORT)
        # Nodes start with different servers; a failure moves on to the next one.
        self._turn = time.time_ns() // 1000
        self._base = _base(url)
        self._credentials = None if url.user is None else f"{url.user}:{url.password}"
        #: The node whose modification times show the leader's clock.
        self.clock_path = f"{self._base}/{_CLOCK}"
        self._made: list[str] = []

    # Connections.

    def opened(self, session: Session, lasting: float, deadline: float | None = None) -> Session:
        """Return `session` connected to one of the servers, for use in `with`; one that has expired is replaced.

        Monotonic time `deadline` is when all must be done; by default the time limit of a request from now.
        """
        if deadline is None:
            deadline = time.monotonic() + self.timeout
        if not session.resume(deadline):
            try:
                retry_while_busy(deadline, lambda: self._connect(session, lasting, deadline))
            except SessionOver:
                session.forget()
                retry_while_busy(deadline, lambda: self._connect(session, lasting, deadline))
        return session

    def _connect(self, session: Session, lasting: float, deadline: float) -> None:
        """Try each server once; a hung one uses up its share of the time only."""
        for left in range(len(self._hosts), 0, -1):
            now = time.monotonic()
            try:
                host, port = self._hosts[self._turn % len(self._hosts)]
                address = f"{self.name.partition('://')[0]}://{host}:{port}"
                share = now + (deadline - now) / left
                stream = Stream.connect_tcp(address, host, port, share, self._tls)
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

    # Reads.

    def read(self, session: Session, key: str, *, exact: bool) -> NodeCell:
        """Return the key's cell as it is now: by a plain read if that shows a lease, else by the leader's clock.

        With `exact` always by the clock, and with what is left of the lease.
        """
        path = self.path(key)
        synced, data, children = session.ask(Sync(path), GetData(path), GetChildren2(path))
        if synced.code != NO_NODE:
            self.value(synced, path)
        cell = self._cell(path, data, children, None)
        if cell is not None and cell.lease and not exact:
            return cell
        while True:
            # Reads after the write show whatever was committed before it.
            clock, data, children = session.ask(
                SetData(self.clock_path, b"", ANY_VERSION), GetData(path), GetChildren2(path)
            )
            if clock.code != NO_NODE:
                cell = self._cell(path, data, children, self.value(clock, self.clock_path).mtime)
                if cell is not None and cell.lease and exact:
                    cell = self._with_lease_left(session, key, cell)
                if cell is not None:
                    return cell
            elif data.code == NO_NODE:
                # The prefix may never have been used, and a read creates no nodes.
                return NodeCell(floor=data.zxid + 1, seen_at=time.monotonic())
            else:
                self.make_parents(session)

    def is_same_node(self, session: Session, key: str, seen: NodeCell) -> bool:
        """Return True if the key's node is the one `seen`, however often it was written meanwhile."""
        reply = session.ask(Exists(self.path(key)))[0]
        if seen.node is None or reply.code == NO_NODE:
            return False
        return bool(self.value(reply, self.path(key)).czxid == seen.node[0])

    def keys(self, session: Session) -> Iterator[str]:
        """Return the keys that have a node."""
        reply = session.ask(GetChildren2(self._base))[0]
        names = [] if reply.code == NO_NODE else self.value(reply, self._base)[0]
        # Leaves out the clock's node, and foreign ones.
        return filter(None, (key_of(name) for name in names))

    def _cell(self, path: str, data: Reply, children: Reply, now: int | None) -> NodeCell | None:
        """Return the cell of a server's two replies, None if these are of two versions."""
        if data.code == NO_NODE:
            clock = None if now is None else now / 1000
            return NodeCell(floor=data.zxid + 1, time=clock, leader_time=now or 0, seen_at=time.monotonic())
        text, stat = self.value(data, path)
        # The node was deleted in between.
        names, later = ([], None) if children.code == NO_NODE else self.value(children, path)
        if later is None or (stat.czxid, stat.version) != (later.czxid, later.version):
            return None
        try:
            return to_cell(text or b"", stat, names, now, data.zxid)
        except ForeignValue as error:
            raise ForeignValue.at(f"{self.name}: node {path}", error) from None

    def _with_lease_left(self, session: Session, key: str, cell: NodeCell) -> NodeCell | None:
        """Return `cell` with what is left of its lease; None if that is over by now, and told in the record perhaps."""
        path = self.lease_path(key, cell.lease_name)
        reply = session.ask(Exists(path))[0]
        if reply.code == NO_NODE:
            return None
        return cell.but(lease=cell.lease_left(self.value(reply, path).mtime, cell.leader_time))

    # Replies and paths.

    def make_parents(self, session: Session) -> None:
        """Create the nodes above those of keys, and the clock's."""
        parts = self._base.split("/")[1:]
        paths = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))] + [self.clock_path]
        replies = session.ask(*(Create(path, b"", self.acl, 0) for path in paths))
        self._made += [path for path, reply in zip(paths, replies) if reply.code == OK]
        # A parent that exists may deny access to itself, and still serve; a missing one may not.
        made = replies[-1].code in (OK, NODE_EXISTS)
        for path, reply in zip(paths, replies):
            if not made and reply.code != NODE_EXISTS:
                self.value(reply, path)

    def remove(self, session: Session, key: str, seen: NodeCell) -> bool:
        """Remove the key's node if it is as `seen`, and what `make_parents` made; one with nodes below it stays."""
        path = self.path(key)
        if seen.node is not None:
            # The number of writes does not distinguish it from a new node of that name.
            if not self.is_same_node(session, key, seen):
                return False
            reply = session.ask(Delete(path, seen.node[1]))[0]
            if reply.code in (NO_NODE, BAD_VERSION):
                return False
            self.value(reply, path)
        session.ask(*(Delete(one, ANY_VERSION) for one in reversed(self._made)))
        return True

    def value(self, reply: Reply, path: str) -> Any:
        """Return the value of a reply; raise the exception for its error."""
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
        raise BackendUnavailable(f"{self.name}: the server answered with {_error_name(reply.code)} for {path}")

    def path(self, key: str) -> str:
        """Return the path of the key's node."""
        return f"{self._base}/{escape(key)}"

    def lease_path(self, key: str, name: str) -> str:
        """Return the path of a lease's node."""
        return f"{self.path(key)}/{name}"


def _error_name(code: int) -> str:
    """Return what to call an error that a reply has, such as ``error -125 (QuotaExceededError)``."""
    try:
        from kazoo.exceptions import EXCEPTIONS

        return f"error {code} ({EXCEPTIONS[code].__name__})"
    except (ImportError, RuntimeError):  # None of the installation, or none that it knows.
        return f"error {code}"


def _base(url: URL) -> str:
    """Return the path of the node that keys live under; raise ConfigError for a bad chroot or prefix."""
    parts = [*url.path_parts, url.prefix()]
    if parts[0] == "zookeeper" or any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        path = "/".join(parts)
        raise ConfigError(f"{url}: chroot and prefix make the path {'/' + path!r}, which ZooKeeper does not take")
    return "/" + "/".join(parts)
