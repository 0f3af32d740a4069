"""memcached's meta protocol on one connection: reading an item, swapping it, asking for statistics.

Every answer is read within bounds, and parsed strictly: whatever is not memcached, or not new enough, is
BackendUnavailable. The protocol took its lasting form in memcached 1.6.10
(https://github.com/memcached/memcached/pull/795). pymemcache does not speak it; it parses the statistics.
"""

from __future__ import annotations

from ...errors import BackendUnavailable, ForeignValue, printable
from ...value import Value, digits
from ..wire.stream import ServerBusy, Stream, protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of an item's name, as the protocol has it.
LONGEST_NAME = 250
#: The longest value that is read or written, in bytes: far below what a server takes unless told otherwise (1 MiB).
LONGEST_VALUE = 65536
_LONGEST_LINE = 512
#: Bytes; a server's statistics have some 5,000.
_LONGEST_STATISTICS = 1 << 18
_TOO_MANY = b"ERROR Too many open connections"
_NEEDED = "cronlock needs memcached 1.6.10 or later, with its text protocol and without SASL"


class Item(Value):
    """An item of the server's."""

    value: bytes
    #: Whole seconds until the server drops it; None for never.
    left: int | None
    #: Different after every change; comparable on this connection only, since a restarted server counts from the start.
    cas: int


class Connection:
    """One connection to one server. Any failure leaves it unusable."""

    __slots__ = ("_buffer", "_heard", "_name", "_stream")

    def __init__(self, name: str, stream: Stream) -> None:
        self._name = name
        self._stream = stream
        self._buffer = b""
        self._heard = False

    def limit(self, deadline: float) -> None:
        """Let what is asked from now on be done by monotonic time `deadline`."""
        self._stream.limit(deadline)

    def close(self) -> None:
        """Close the connection; raises nothing."""
        self._stream.close()

    def get(self, name: bytes) -> Item | None:
        """Return the item `name`, or None. Raises ForeignValue for one that is too long."""
        self._stream.send(b"mg %b v t c\r\n" % name)
        code, words = self._answer()
        if code == b"EN":
            return None
        if code != b"VA" or not words:
            raise self._protocol_error(code)
        size = self._number(words[0])
        if size > LONGEST_VALUE:
            raise ForeignValue(f"{size} bytes: it is not cronlock's")
        flags = self._flags(words[1:])
        block = self._take(size + 2)
        if not block.endswith(b"\r\n"):
            raise self._protocol_error(block[-60:])
        return Item(block[:-2], self._left(flags), self._cas(flags))

    def swap(self, name: bytes, value: bytes, cas: int, seconds: int) -> tuple[int | None, int | None]:
        """Put `value` in the place of the item that has `cas`, or of none for 0, for so many seconds.

        Returns the new item's CAS, or None when another was faster; and how many seconds the item
        that was there just before would have had left.
        """
        if len(value) > LONGEST_VALUE:
            raise BackendUnavailable(f"{self._name}: the record is too long: {len(value)} bytes")
        condition = b"C%d" % cas if cas else b"ME"
        # One packet, and so one round trip.
        look = b"mg %b t\r\n" % name
        self._stream.send(look + b"ms %b %d %b T%d c\r\n%b\r\n" % (name, len(value), condition, seconds, value))
        code, words = self._answer()
        if code not in (b"HD", b"EN"):
            raise self._protocol_error(code)
        left = self._left(self._flags(words)) if code == b"HD" else None
        code, words = self._answer()
        if code in (b"NS", b"EX", b"NF"):
            return None, left
        if code != b"HD":
            raise self._protocol_error(code)
        return self._cas(self._flags(words)), left

    def delete(self, name: bytes, cas: int) -> bool:
        """Remove the item `name` that has `cas`; False if another has, or none is there."""
        self._stream.send(b"md %b C%d\r\n" % (name, cas))
        code, _ = self._answer()
        if code not in (b"HD", b"NF", b"EX"):
            raise self._protocol_error(code)
        return code == b"HD"

    def statistics(self, group: bytes = b"") -> dict[str, str]:
        """Return what ``stats`` says, of a `group` such as ``settings``, by name; of each the first word."""
        # Here, since it takes longer to import than a run does otherwise.
        from pymemcache.client.base import Client
        from pymemcache.exceptions import MemcacheError

        client = Client("unused")
        client.sock = _Socket(self._name, self._receive, self._stream)
        try:
            stats = client.stats(*((group,) if group else ()))
        except (MemcacheError, ValueError, LookupError) as error:
            raise BackendUnavailable(f"{self._name}: no statistics: {_text(str(error).encode()[:100])}") from error
        return {_text(name): _text(value) if isinstance(value, bytes) else str(value) for name, value in stats.items()}

    def uptime(self) -> int:
        """Return for how many seconds the server says that it is up."""
        return self._number(self.statistics().get("uptime", "").encode())

    def _answer(self) -> tuple[bytes, list[bytes]]:
        line = self._line()
        words = line.split()
        if line.startswith(_TOO_MANY):
            raise _busy(self._name)
        if line == b"ERROR":
            raise BackendUnavailable(f"{self._name}: the server does not know the meta commands: {_NEEDED}")
        if words and words[0] in (b"CLIENT_ERROR", b"SERVER_ERROR"):
            said = _text(line[:100])
            if words[0] == b"SERVER_ERROR":
                raise BackendUnavailable(f"{self._name}: the server answered {said!r}")
            if b"unauthenticated" in line:
                raise BackendUnavailable(f"{self._name}: the server wants a user and a password; start it without -Y")
            raise BackendUnavailable(f"{self._name}: the server answered {said!r}: {_NEEDED}")
        if not words:
            raise self._protocol_error(line)
        self._heard = True
        return words[0], words[1:]

    def _line(self) -> bytes:
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if end:
                self._buffer = rest
                return line
            if len(line) > _LONGEST_LINE:
                raise self._protocol_error(line)
            self._buffer += self._receive()

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._receive()
        block, self._buffer = self._buffer[:size], self._buffer[size:]
        return block

    def _receive(self) -> bytes:
        try:
            return self._stream.receive()
        except BackendUnavailable as error:
            if self._heard:
                raise
            # A server that speaks only the binary protocol hangs up without a word.
            raise BackendUnavailable(f"{error}; {_NEEDED}") from error

    def _flags(self, words: list[bytes]) -> dict[bytes, bytes]:
        return {word[:1]: word[1:] for word in words}

    def _left(self, flags: dict[bytes, bytes]) -> int | None:
        left = flags.get(b"t", b"")
        return None if left == b"-1" else self._number(left)

    def _cas(self, flags: dict[bytes, bytes]) -> int:
        cas = self._number(flags.get(b"c", b""))
        if cas == 0:
            raise BackendUnavailable(f"{self._name}: the server runs without CAS; start it without -C")
        return cas

    def _number(self, word: bytes) -> int:
        number = digits(word, 20)
        if number is None:
            raise self._protocol_error(word)
        return number

    def _protocol_error(self, data: bytes) -> BackendUnavailable:
        return protocol_error(self._name, "memcached", repr(data[:60]))


class _Socket:
    """A stream as the socket that pymemcache wants, so that its answers end in time and within bounds."""

    def __init__(self, name: str, receive: Callable[[], bytes], stream: Stream) -> None:
        self._name = name
        self._receive = receive
        self._left = _LONGEST_STATISTICS
        self.sendall = stream.send

    def recv(self, _size: int) -> bytes:
        """Return the next bytes, more than `_size` perhaps: the client takes any number."""
        data = self._receive()
        if self._left == _LONGEST_STATISTICS and data.startswith(_TOO_MANY):
            raise _busy(self._name)
        self._left -= len(data)
        if self._left < 0:
            raise protocol_error(self._name, "memcached", "endless statistics")
        return data

    def close(self) -> None:
        """Do nothing: the stream's owner drops it after a failure."""


def _busy(name: str) -> ServerBusy:
    return ServerBusy(f"{name}: the server has no room for another connection: raise its limit (-c)")


def _text(value: bytes) -> str:
    return printable(value.decode("utf-8", "replace"), "")
