"""A session with ZooKeeper servers: no threads, no queues, one request at a time."""

from __future__ import annotations

import time

from ...errors import BackendUnavailable
from ...value import Value
from ..wire.stream import ConnectionClosed, ServerBusy, Stream, protocol_error
from .messages import AUTH_XID, EVENT_XID, Auth, Close, Fields, Header, Opened, Request, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The largest reply read, in bytes; the servers' own limit for a node is 1 MiB.
LARGEST_REPLY = 4 << 20
#: A connection that was idle for longer, in seconds, is replaced by a new one.
FRESH = 1.0

# The servers' error codes that mean something here.
OK, ROLLED_BACK, NOT_TRIED = 0, 0, -2
NO_NODE, NO_AUTH, BAD_VERSION, EPHEMERAL_PARENT, NODE_EXISTS = -101, -102, -103, -108, -110
EXPIRED = -112
_AUTH_FAILED = -115


class SessionOver(BackendUnavailable):
    """The servers have ended the session, and deleted its ephemeral nodes."""


class Reply(Value):
    """One answer of a server."""

    code: int
    value: Any
    zxid: int


class Session:
    """One session, and its connection while there is one. A failure drops the connection only."""

    __slots__ = (
        *("_buffer", "_greeting", "_name", "_opened", "_password", "_stream", "_used", "_xid"),
        *("asked", "event_seen", "id", "timeout"),
    )

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream: Stream | None = None
        #: The first requests on the connection, if not sent yet.
        self._greeting: tuple[Request, ...] = ()
        self._used = self._opened = 0.0
        #: True if an event arrived since this was last set to False.
        self.event_seen = False
        self.forget()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self.drop()

    def forget(self) -> None:
        """Become a session that does not exist yet."""
        self.drop()
        self.id = 0
        self._password = bytes(16)
        #: The timeout in seconds that the servers granted, once it is open, and the one requested.
        self.timeout = self.asked = 0.0

    @property
    def label(self) -> str:
        """The id as people read it."""
        return f"{self.id & 0xFFFFFFFFFFFFFFFF:x}"

    def resume(self, deadline: float) -> bool:
        """Reuse the connection if it was used a moment ago; False if not."""
        if self._stream is not None and time.monotonic() - self._used < FRESH:
            self._stream.limit(deadline)
            return True
        self.drop()
        return False

    def was_just_opened(self, lasting: float) -> bool:
        """Return True if opening it for `lasting` seconds now would change nothing: it was opened so a moment ago."""
        same = self.asked == lasting or (self.timeout < self.asked and self.timeout <= lasting)
        return same and self._stream is not None and time.monotonic() - self._opened < FRESH

    def go_on(self, deadline: float) -> None:
        """Reuse the connection, however long it was idle; raise BackendUnavailable without one."""
        if self._stream is None:
            raise BackendUnavailable(f"{self._name}: the connection is closed")
        self._stream.limit(deadline)

    def open(self, stream: Stream, lasting: float, credentials: str | None) -> None:
        """Begin or resume the session over `stream`; raise SessionOver if it ended.

        `lasting` is the timeout in seconds to request.
        """
        self._stream = stream
        self._opened = time.monotonic()
        self.asked = lasting
        self.event_seen = False
        self._xid = 0
        milliseconds = min(int(lasting * 1000), 2**31 - 1)
        stream.send(connect(milliseconds, self.id, self._password))
        try:
            reply = Opened.read(self._receive())
        except ConnectionClosed as error:
            # The server closes a connection beyond the limit per address without a reply.
            raise ServerBusy(f"{error}; are there too many from this machine (maxClientCnxns)?") from error
        except ValueError as error:
            raise self._protocol_error() from error
        if reply.timeout <= 0:
            raise SessionOver(f"{self._name}: the session is over")
        if self.id not in (0, reply.id) or not reply.id or len(reply.password) > 64:
            raise self._protocol_error()
        self.id = reply.id
        self._password = reply.password
        self.timeout = reply.timeout / 1000
        self._greeting = () if credentials is None else (Auth("digest", credentials),)

    def ask(self, *requests: Request) -> list[Reply]:
        """Send `requests` at once, in order, and return the servers' answers."""
        greeting, self._greeting = self._greeting, ()
        numbered: list[tuple[int, Request]] = [(AUTH_XID, request) for request in greeting]
        for request in requests:
            self._xid += 1
            numbered.append((self._xid, request))
        assert self._stream is not None
        self._stream.send(b"".join(request.numbered(xid) for xid, request in numbered))
        replies = [self._reply(xid, request) for xid, request in numbered]
        self._used = time.monotonic()
        return replies[len(greeting) :]

    def hear(self, deadline: float) -> None:
        """Read up to an event, even a received one; raise BackendUnavailable if the connection fails."""
        self.go_on(deadline)
        try:
            while not self.event_seen:
                self.event_seen = Header.read(self._receive()).xid == EVENT_XID
        except ValueError as error:
            raise self._protocol_error() from error

    def notified(self) -> bool:
        """Return True if an event arrived, or bytes of one."""
        return self.event_seen or bool(self._buffer) or (self._stream is not None and self._stream.buffers())

    def descriptor(self) -> int:
        """Return the connection's descriptor, readable once there is more than `notified` knows."""
        assert self._stream is not None
        return self._stream.fileno()

    def end(self) -> None:
        """Close session and connection; raises nothing. If the request is lost, the session times out."""
        if self._stream is not None:
            try:
                self._stream.limit(time.monotonic() + FRESH)
                self._stream.send(Close().numbered(self._xid + 1))
            except BackendUnavailable:
                pass  # The session times out.
        self.forget()

    def drop(self) -> None:
        """Close the connection; the session and its lease last until its timeout."""
        self._buffer = bytearray()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._greeting = ()
        self._used = 0.0

    def _receive(self) -> Fields:
        """Return the next message."""
        length = int.from_bytes(self._take(4), "big", signed=True)
        if not 0 <= length <= LARGEST_REPLY:
            raise self._protocol_error()
        return Fields(self._take(length))

    def _take(self, length: int) -> bytes:
        assert self._stream is not None
        while len(self._buffer) < length:
            self._buffer += self._stream.receive()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _reply(self, xid: int, request: Request) -> Reply:
        try:
            while True:
                answer = self._receive()
                header = Header.read(answer)
                if header.xid != EVENT_XID:
                    break
                self.event_seen = True
            if header.xid != xid:
                raise self._protocol_error()
            if header.code == _AUTH_FAILED:
                raise BackendUnavailable(f"{self._name}: authentication failed: check user and password in the URL")
            return Reply(header.code, None if header.code else request.answer(answer), header.zxid)
        except ValueError as error:
            raise self._protocol_error() from error

    def _protocol_error(self) -> BackendUnavailable:
        return protocol_error(self._name, "ZooKeeper")
