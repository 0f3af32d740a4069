"""Binary messages over a stream, of bounded length, and the fields in them, read one behind the other."""

from __future__ import annotations

from ...errors import printable
from .stream import protocol_error, without_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...errors import BackendUnavailable
    from .stream import Stream

#: More bytes than any answer has: a thousand names, or a history.
LONGEST_ANSWER = 4 << 20
_LONGEST_MESSAGE = 300


class Fields:
    """A message, read from its start. Raises ValueError for a field that is cut off, or none."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        start, self._at = self._at, self._at + length
        if length < 0 or self._at > len(self._data):
            raise ValueError("cut off")
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self))


class Exchange:
    """Messages to and from the server `name`. Any failure raises BackendUnavailable and leaves it unusable.

    A protocol adds how they are sent and received.
    """

    __slots__ = ("_buffer", "_left", "_name", "_secret", "_stream")
    #: The server's product, in messages.
    product = ""

    def __init__(self, name: str, stream: Stream, secret: str | None) -> None:
        """`secret` is the password, which appears in no message."""
        self._name = name
        self._stream = stream
        self._secret = secret
        self._buffer = bytearray()
        #: How many bytes the present answer may still have.
        self._left = LONGEST_ANSWER

    def limit(self, deadline: float) -> None:
        """Let all that is asked from now on be done by monotonic time `deadline`."""
        self._stream.limit(deadline)

    def quiet(self) -> bool:
        """Whether nothing came since the last answer: what comes then is the server's goodbye."""
        return not self._buffer and self._stream.quiet()

    def nonsense(self, fault: str = "") -> BackendUnavailable:
        """Return the error for what no server of this kind says."""
        return protocol_error(self._name, self.product, fault)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self._stream.close()

    def _take(self, length: int) -> bytes:
        """Return the next bytes of an answer."""
        self._left -= length
        if self._left < 0:
            raise self.nonsense("too long")
        while len(self._buffer) < length:
            self._buffer += self._stream.receive()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data


def one_line(text: str, secret: str | None) -> str:
    """Return a message of the server's as one line that a terminal can show, without `secret`."""
    return printable(" ".join(without_secrets(text, secret).split()))[:_LONGEST_MESSAGE]
