"""The packets of MySQL's protocol over a stream, and the fields in them.

A packet is its length in three bytes, its number, counted from the last command, and a payload. See
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basics.html.
"""

from __future__ import annotations

from ..wire import fields
from ..wire.sql import Refused
from ..wire.stream import ConnectionClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.stream import Stream
    from ..wire.tls import Context

#: The product, in messages.
PRODUCT = "MySQL or MariaDB"
_ERROR = 0xFF
# How many bytes a number has behind one of these, and what stands for NULL.
_SIZES = {0xFC: 2, 0xFD: 3, 0xFE: 8}
_NULL = 0xFB


class Fields(fields.Fields):
    """A payload, read from its start. Raises ValueError for a field that is cut off, or none."""

    __slots__ = ()

    def number(self, size: int) -> int:
        """Return a number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def length(self) -> int | None:
        """Return a number whose size is in its first byte; None for NULL."""
        first = self.number(1)
        if first < _NULL:
            return first
        if first == _NULL:
            return None
        if first not in _SIZES:
            raise ValueError("no number")
        return self.number(_SIZES[first])

    def text(self) -> bytes | None:
        """Return bytes with their length before them; None for NULL."""
        length = self.length()
        return None if length is None else self.take(length)

    def word(self) -> bytes:
        """Return bytes that end with NUL, without that, or all that is left."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            return self.rest()
        word = self.take(end - self._at)
        self._at += 1
        return word


class Packets(fields.Exchange):
    """Packets to and from the server `name`. Any failure raises BackendUnavailable and leaves it unusable."""

    __slots__ = ("_number",)
    product = PRODUCT

    def __init__(self, name: str, stream: Stream, secret: str) -> None:
        """`secret` is the password, which appears in no message."""
        super().__init__(name, stream, secret)
        self._number = 0

    def start_tls(self, context: Context, host: str) -> None:
        """Speak TLS from now on with the server, which is to prove that it is `host`."""
        if self._buffer:
            # It came before there was TLS, from anybody.
            raise self.nonsense("more than requested")
        self._stream.start_tls(context, host)

    def certificate(self) -> dict[str, object]:
        """Return what the server's certificate says, where it was verified."""
        return self._stream.certificate()

    def command(self, payload: bytes) -> None:
        """Send the first packet of a command."""
        self._number = 0
        self._left = fields.LONGEST_ANSWER
        self.send(payload)

    def send(self, payload: bytes) -> None:
        """Send a packet."""
        self._stream.send(len(payload).to_bytes(3, "little") + bytes([self._number]) + payload)
        self._number = (self._number + 1) % 256

    def receive(self) -> bytes:
        """Return the next packet's payload, which is not empty. Raises Refused for an error of the server's.

        No answer is long enough to be spread over several packets, of 16 MiB each.
        """
        length, number = int.from_bytes(self._take(3), "little"), self._take(1)[0]
        data = self._take(length)
        expected, self._number = self._number, (number + 1) % 256
        if not data:
            raise self.nonsense()
        if data[0] == _ERROR:
            code, text = self._error(data)
            if number == expected:
                raise Refused(text, code)
            # Of no request: it is about to hang up, and what was asked may have been done.
            raise ConnectionClosed(text)
        if number != expected:
            raise self.nonsense("out of order")
        return data

    def _error(self, data: bytes) -> tuple[int, str]:
        """Return the number of an error, and its text as one line that a terminal can show."""
        error = Fields(data[1:])
        try:
            code, text = error.number(2), error.rest()
        except ValueError:
            raise self.nonsense() from None
        if text.startswith(b"#"):
            text = text[6:]  # Behind the SQLSTATE, which says less than the number.
        line = fields.one_line(text.decode("utf-8", "replace"), self._secret)
        return code, f"{self._name}: {line or 'no reason given'}"
