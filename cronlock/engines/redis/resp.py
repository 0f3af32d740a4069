"""RESP2, the protocol of Redis and Valkey: strict, and bounded in size, depth and time.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from ...errors import BackendUnavailable, printable
from ...value import Value
from ..wire.stream import ConnectionClosed, ServerBusy, Stream, protocol_error, retry_while_busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol, Union

    from ..wire.tls import Context

    Command = Sequence[bytes]
    #: A reply: a string, a number, nothing, an error or a list of these.
    Reply = Union[bytes, int, None, "ReplyError", "list[Reply]"]
    #: Host and port, or the path of a Unix socket.
    Address = Union[tuple[str, int], str]

    class Transport(Protocol):
        """The connection to a key's server: one server, or the right one of many."""

        name: str

        def ask(self, commands: list[Command], deadline: float, key: bytes = b"") -> list[Reply]:
            """Send `commands` to the server that has `key`; return the replies."""

        def masters(self, deadline: float) -> list[Server]:
            """Return the servers that hold the keys."""

        def server_of(self, key: bytes, deadline: float) -> Server:
            """Return the server that has `key`."""

        def confirm(self, deadline: float) -> None:
            """Look, before a renewal, whether the servers that are known are still those to ask; raises nothing."""

        def close(self) -> None:
            """Close all connections; raises nothing."""


#: The product, in messages.
PRODUCT = "Redis or Valkey"
#: Bytes of one reply. The longest that is expected is one page of SCAN.
LONGEST_REPLY = 256 * 1024
DEEPEST_REPLY = 8

# The server's errors and their meaning for the user; the first that is found in the text counts,
# since older servers put other text before the code of an error in a script.
_HINTS = (
    ("unauthenticated", "the server wants a password: write it in the URL as user:password@ or :password@"),
    ("NOAUTH", "the server wants a password: write it in the URL as user:password@ or :password@"),
    ("NOPERM", "this user may not do what cronlock needs: see the ACL rule in the manual"),
    ("ACL failure", "this user may not do what cronlock needs: see the ACL rule in the manual"),
    ("can't run this command", "this user may not do what cronlock needs: see the ACL rule in the manual"),
    ("DENIED", "the server is in protected mode: set a password or bind it to this network"),
    ("LOADING", "the server is still loading its data"),
    ("BUSY", "the server is busy with a slow script"),
    ("READONLY", "this server is a read-only replica: name the master, or use redis+sentinel://"),
    ("MASTERDOWN", "this replica has lost its master: name the master, or use redis+sentinel://"),
    ("OOM", "the server has reached its maxmemory: give it room"),
    ("MISCONF", "the server cannot save to its disk and refuses writes: see its log"),
    ("NOREPLICAS", "the server has too few replicas (min-replicas-to-write)"),
    ("CLUSTERDOWN", "the cluster is down: some slots have no master"),
    ("TRYAGAIN", "the cluster is moving this key's slot"),
    ("MOVED", "the server belongs to a cluster: use redis+cluster://"),
    ("ASK ", "the server belongs to a cluster: use redis+cluster://"),
    ("unknown command", "the server does not know the command: Redis 6 or later, or Valkey, is needed"),
    ("DB index", "the server has no database of this number"),
    ("max number of clients", "the server has no room for another client (maxclients)"),
)

_FULL = "ERR max number of clients"


class ReplyError(Value):
    """An error reply, as a value."""

    text: str
    #: The password, which the server may repeat and messages must not.
    secret: str

    @property
    def server_is_full(self) -> bool:
        """True if the server had no room for the connection, and executed no request of it."""
        return self.text.startswith(_FULL)

    def refusal(self, name: str) -> BackendUnavailable:
        """Return the exception, with the error's meaning and remedy, for the server `name`."""
        text = self.text.replace(self.secret, "***") if self.secret else self.text
        text = printable(text[:200])
        for sign, hint in _HINTS:
            if sign in self.text:
                kind = ServerBusy if self.server_is_full else BackendUnavailable
                return kind(f"{name}: {hint} ({text})")
        return BackendUnavailable(f"{name}: the server refused: {text}")


def encode(command: Command) -> bytes:
    """Return the bytes of `command`, an array of bulk strings."""
    words = [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
    return b"*%d\r\n%b" % (len(command), b"".join(words))


class Replies:
    """Reads replies from `receive`, which returns at least one byte or raises BackendUnavailable.

    Whatever is not RESP2 or goes beyond the limits is BackendUnavailable.
    """

    def __init__(self, name: str, receive: Callable[[], bytes], secret: str = "", longest: int = LONGEST_REPLY) -> None:
        self._name = name
        self._longest = longest
        self._receive = receive
        self._secret = secret
        self._buffer = b""
        #: How much of the buffer has been read.
        self._at = 0
        #: Bytes that the present reply may still have.
        self._left = 0

    def next(self) -> Reply:
        """Return the next reply."""
        self._left = self._longest
        return self._value(0)

    def expect_end(self) -> None:
        """Raise BackendUnavailable if the server sent extra bytes: replies could no longer be matched to requests."""
        if self._at < len(self._buffer):
            raise self._malformed("more than requested")

    def _value(self, depth: int) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"), self._secret)
        number = self._number(rest)
        if kind == b":":
            return number
        if number == -1:
            return None
        # Each element has three bytes or more, so this bounds a list as well.
        if not 0 <= number <= self._left:
            raise self._malformed("bad length")
        if kind == b"$":
            data = self._take(number + 2)
            if not data.endswith(b"\r\n"):
                raise self._malformed()
            return data[:-2]
        if depth == DEEPEST_REPLY:
            raise self._malformed("nested too deep")
        return [self._value(depth + 1) for _ in range(number)]

    def _line(self) -> bytes:
        if self._at == len(self._buffer):
            self._more()
        if self._buffer[self._at] not in b"+-:$*":
            raise self._other_product(self._buffer[self._at :])
        while True:
            end = self._buffer.find(b"\r\n", self._at)
            if end >= 0:
                return self._take(end + 2 - self._at)[:-2]
            if len(self._buffer) - self._at > self._left:
                raise self._malformed("too long")
            self._more()

    def _take(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise self._malformed("too long")
        while len(self._buffer) - self._at < size:
            self._more()
        data = self._buffer[self._at : self._at + size]
        self._at += size
        return data

    def _more(self) -> None:
        self._buffer = self._buffer[self._at :] + self._receive()
        self._at = 0

    def _number(self, text: bytes) -> int:
        digits = text[1:] if text.startswith(b"-") else text
        # int() itself would also take spaces and underscores.
        if not digits.isdigit() or len(digits) > 19:
            raise self._malformed()
        return int(text)

    def _malformed(self, fault: str = "") -> BackendUnavailable:
        return protocol_error(self._name, PRODUCT, fault)

    def _other_product(self, head: bytes) -> BackendUnavailable:
        """Return the error for a server whose reply begins with `head`, without repeating that."""
        if head.startswith((b"HTTP/", b"<")):
            return BackendUnavailable(f"{self._name}: a web server replied, not Redis: check host and port")
        # A TLS alert, the reply to bytes that are not a handshake.
        if head.startswith(b"\x15\x03"):
            return BackendUnavailable(f"{self._name}: this port speaks TLS: use rediss:// (or ?tls=1)")
        return self._malformed()


class Server:
    """One server and one connection to it, made when it is first asked and again after a failure."""

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        credentials: tuple[str | None, str] | None = None,
        tls: Context | None = None,
        longest_reply: int = LONGEST_REPLY,
    ) -> None:
        #: Its name in messages.
        self.name = name
        self.address = address
        #: User, or None for the default one, and password.
        self._credentials = credentials
        self._tls = tls
        self._longest_reply = longest_reply
        self._stream: Stream | None = None
        self._replies: Replies | None = None

    def ask(self, commands: list[Command], deadline: float, key: bytes = b"") -> list[Reply]:  # noqa: ARG002
        """Send all `commands` at once and return their replies, before monotonic time `deadline`.

        `key` is the key that they are about; ensembles find its server.

        Retries while the server has no room; raises ServerBusy if it never has.
        """
        return retry_while_busy(deadline, lambda: self._ask_once(commands, deadline))

    def _ask_once(self, commands: list[Command], deadline: float) -> list[Reply]:
        fresh = self._stream is None
        try:
            return self._exchange(commands, deadline)
        except BaseException as error:
            # The reply may still arrive, and must not be read as a later request's.
            self.close()
            if fresh and self._tls is None and str(error).endswith(("reset by peer", "closed the connection")):
                raise BackendUnavailable(f"{error}; if this port speaks TLS, use rediss:// (or add tls=1)") from error
            raise

    def server_of(self, key: bytes, deadline: float) -> Server:  # noqa: ARG002 (the others ask the network)
        """Return the server that has `key`: this one."""
        return self

    def beside(self) -> Server:
        """Return this server with a connection of its own."""
        return Server(self.name, self.address, credentials=self._credentials, tls=self._tls)

    def fileno(self) -> int:
        """Return the descriptor of the open connection, to wait on."""
        assert self._stream is not None
        return self._stream.fileno()

    def hear(self, deadline: float) -> Reply:
        """Return the next message that the server pushes on a connection that subscribed."""
        assert self._stream is not None
        assert self._replies is not None
        self._stream.limit(deadline)
        return self._replies.next()

    def masters(self, deadline: float) -> list[Server]:  # noqa: ARG002 (the others ask the network)
        """Return the servers that hold the keys: this one."""
        return [self]

    def confirm(self, deadline: float) -> None:
        """Do nothing: the URL names this server."""

    def close(self) -> None:
        """Close the connection; raises nothing."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _exchange(self, commands: list[Command], deadline: float) -> list[Reply]:
        if self._stream is not None and not self._stream.quiet():
            # The server closed the idle connection: no reason to fail the next request.
            self.close()
        login = []
        if self._stream is None:
            self._stream = self._connect(deadline)
            secret = self._credentials[1] if self._credentials else ""
            self._replies = Replies(self.name, self._stream.receive, secret, self._longest_reply)
            login = self._login()
        stream, replies = self._stream, self._replies
        assert replies is not None
        stream.limit(deadline)
        stream.send(b"".join([encode(command) for command in [*login, *commands]]))
        for _ in login:
            answer = replies.next()
            if isinstance(answer, ReplyError):
                raise self._login_refused(answer)
        answers: list[Reply] = []
        for _ in commands:
            try:
                answer = replies.next()
            except ConnectionClosed:
                # An error among the earlier replies may have the reason.
                for earlier in answers:
                    if isinstance(earlier, ReplyError):
                        raise earlier.refusal(self.name) from None
                raise
            if isinstance(answer, ReplyError) and answer.server_is_full:
                raise answer.refusal(self.name)
            answers.append(answer)
        replies.expect_end()
        return answers

    def _login(self) -> list[Command]:
        """Return the login, which precedes the first request in the same packet.

        A server whose default user needs no password carries out a request even after a refused AUTH: its write is
        undone like one whose reply was lost.
        """
        if self._credentials is None:
            return []
        return [[b"AUTH", *[word.encode() for word in self._credentials if word is not None]]]

    def _login_refused(self, error: ReplyError) -> BackendUnavailable:
        if error.text.startswith(("DENIED", "LOADING", _FULL)):
            return error.refusal(self.name)
        # Not the server's text: an "unknown command" error repeats the arguments.
        return BackendUnavailable(f"{self.name}: authentication failed: check user and password in the URL")

    def _connect(self, deadline: float) -> Stream:
        if isinstance(self.address, str):
            return Stream.connect_unix(self.name, self.address, deadline)
        host, port = self.address
        try:
            return Stream.connect_tcp(self.name, host, port, deadline, self._tls)
        except BackendUnavailable as error:
            text = str(error)
            if "no TLS with the server" not in text or "CERTIFICATE" in text:
                raise
            raise BackendUnavailable(f"{text}; if this port has no TLS, use redis:// (or leave out tls=1)") from error
