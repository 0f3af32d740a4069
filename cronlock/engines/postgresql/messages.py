"""The messages of PostgreSQL's protocol over a stream.

A message is its type in one byte, its length in four, and its body. See
https://www.postgresql.org/docs/current/protocol-message-formats.html.
"""

from __future__ import annotations

from ...errors import BackendUnavailable
from ..wire import fields
from ..wire.sql import Refused
from ..wire.stream import ConnectionClosed, ServerBusy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.stream import Stream
    from ..wire.tls import Context

#: A row; None is NULL.
Row = list["str | None"]

#: The product, in messages.
PRODUCT = "PostgreSQL"
#: More than the longest answer, a page of names, has.
MOST_ROWS = 10_000
#: Types of messages of the server's.
ERROR, READY = b"E", b"Z"
# It sends these whenever it likes: a setting that changed, a notice, a notification.
_STATE, _ASIDES = b"S", (b"N", b"A")
#: The settings that are read here.
VERSION, ONLY_READS = b"server_version", (b"in_hot_standby", b"default_transaction_read_only")
# SSLRequest.
_TLS_PLEASE = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
# Severities of errors behind which the connection is over.
_FATAL = ("FATAL", "PANIC")
# SQLSTATEs of a login: no room; nobody with this name may come in from here, in this way.
_NO_ROOM, _NO_WAY = b"\0C53300\0", b"\0C28000\0"
# Faults of a login and their remedies.
_REMEDIES = (
    ("password authentication failed", "check user and password in the URL, or the password file"),
    ("no password supplied", "write USER:PASSWORD@ in the URL, or use a password file"),
    ("session is read-only", "name the primary, or see default_transaction_read_only"),
    ("Connection refused", "check host and port, and that the server is up"),
    ("does not exist", "check user and database in the URL"),
)
# Messages of a full server: libpq shows no code before the connection is made.
_FULL = ("too many clients", "too many connections", "connection slots are reserved", "no more connections allowed")


class Unsuited(BackendUnavailable):
    """A login failed that may go well by libpq, which knows more ways."""


class Fields(fields.Fields):
    """A body, read from its start. Raises ValueError for a field that is cut off, or none."""

    __slots__ = ()

    def number(self, size: int) -> int:
        """Return a number of `size` bytes, with a sign."""
        return int.from_bytes(self.take(size), "big", signed=True)


class Messages(fields.Exchange):
    """Messages to and from the server `name`. Any failure raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("states",)
    product = PRODUCT

    def __init__(self, name: str, stream: Stream, secret: str | None) -> None:
        """`secret` is the password, which appears in no message."""
        super().__init__(name, stream, secret)
        #: The settings that the server told of, of those that are read.
        self.states: dict[bytes, bytes] = {}

    def offers_tls(self) -> bool:
        """Ask whether the server speaks TLS, which is then to be started."""
        self._stream.send(_TLS_PLEASE)
        answer = self._take(1)
        if answer == ERROR:
            # It cannot even start a process, perhaps.
            raise Unsuited(f"{self._name}: the server refuses the request for TLS")
        if answer not in (b"S", b"N"):
            raise self.nonsense()
        if self._buffer:
            # It came before there was TLS, from anybody.
            raise self.nonsense("more than requested")
        return answer == b"S"

    def start_tls(self, context: Context, host: str) -> None:
        """Speak TLS from now on with the server, which is to prove that it is `host`."""
        try:
            self._stream.start_tls(context, host)
        except BackendUnavailable as error:
            raise Unsuited(str(error)) from error

    def peer(self) -> bytes | None:
        """Return the server's certificate; None without TLS."""
        return self._stream.peer()

    def ask(self, data: bytes) -> None:
        """Send messages where nothing is left of an earlier answer."""
        if self._buffer:
            raise self.nonsense("more than requested")
        self.send(data)

    def send(self, data: bytes) -> None:
        """Send messages, whose answer begins."""
        self._left = fields.LONGEST_ANSWER
        self._stream.send(data)

    def receive(self) -> tuple[bytes, bytes]:
        """Return type and body of the next message that belongs to an answer."""
        while True:
            kind, length = self._take(1), int.from_bytes(self._take(4), "big") - 4
            if length < 0:
                raise self.nonsense()
            body = self._take(length)
            if kind == _STATE:
                name, _, value = body.partition(b"\0")
                if name == VERSION or name in ONLY_READS:
                    self.states[name] = value.rstrip(b"\0")
            elif kind not in _ASIDES:
                return kind, body

    def refusal(self, body: bytes) -> Refused:
        """Return the error of which the server tells in `body`.

        Raises ConnectionClosed for one that is no answer: the server hangs up, and what was asked may have been done.
        """
        parts = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
        text = f"{self._name}: {one_line(parts.get(b'M', ''), self._secret)}"
        # The severity that is not translated, which all servers from 9.6 on send, but not all poolers.
        if parts.get(b"V", parts.get(b"S")) in _FATAL:
            raise ConnectionClosed(text)
        return Refused(text, parts.get(b"C", ""))

    def denial(self, body: bytes) -> BackendUnavailable:
        """Return the error for a login that the server refuses."""
        try:
            text = str(self.refusal(body))
        except ConnectionClosed as error:
            text = str(error)
        if _NO_WAY in body:
            return Unsuited(text)
        return login_error(text, full=_NO_ROOM in body)


def message(kind: bytes, *parts: bytes) -> bytes:
    """Return the message of this type whose body is `parts`."""
    body = b"".join(parts)
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def login_error(text: str, *, full: bool = False) -> BackendUnavailable:
    """Return the error for a login that failed with `text`; ServerBusy if that is for want of room."""
    kind = ServerBusy if full or any(sign in text for sign in _FULL) else BackendUnavailable
    return kind("; ".join([text, *[remedy for sign, remedy in _REMEDIES if sign in text][:1]]))


def one_line(text: str, secret: str | None) -> str:
    """Return a message of the server or of libpq as one printable line without `secret`."""
    return fields.one_line(text, secret) or "the connection failed"
