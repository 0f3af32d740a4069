"""memcached's meta protocol on one connection: reading an item, swapping it, asking for statistics.

Every answer is parsed strictly and within bounds: whatever is not memcached, or not new enough,
is BackendUnavailable. The protocol took its lasting form in memcached 1.6.10
(https://github.com/memcached/memcached/pull/795).
"""

from __future__ import annotations

from ...errors import BackendUnavailable
from ..wire.stream import Busy, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: The longest value that is read or written, in bytes.
LONGEST_VALUE = 16384
_LONGEST_LINE = 512
_LONGEST_STATISTICS = 1 << 20
_NEEDED = "cronlock needs memcached 1.6.10 or later, with its text protocol and without SASL"


class Item:
    """What the server keeps under a name."""

    __slots__ = ("cas", "left", "value")

    def __init__(self, value: bytes, left: int | None, cas: int) -> None:
        self.value = value
        #: Whole seconds until the server drops it; None for never.
        self.left = left
        #: Different after every change; comparable on this connection only, since it starts anew with the server.
        self.cas = cas


class Connection:
    """One connection to one server. After a failure it is of no use."""

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
        """Return the item `name`; None if there is none."""
        (item,) = self.get_all([name])
        return item

    def get_all(self, names: list[bytes]) -> list[Item | None]:
        """Return the items of `names`, asked for in one packet; None in the place of one that is not there."""
        self._stream.send(b"".join(b"mg %b v t c\r\n" % name for name in names))
        return [self._item(name) for name in names]

    def _item(self, name: bytes) -> Item | None:
        code, words = self._answer()
        if code == b"EN":
            return None
        if code != b"VA" or not words:
            raise self._nonsense(code)
        size = self._number(words[0])
        if size > LONGEST_VALUE:
            raise BackendUnavailable(f"{self._name}: the item {name.decode()} has {size} bytes: it is not cronlock's")
        flags = self._flags(words[1:])
        block = self._take(size + 2)
        if not block.endswith(b"\r\n"):
            raise self._nonsense(block[-60:])
        return Item(block[:-2], self._left(flags), self._cas(flags))

    def swap(
        self, name: bytes, value: bytes, cas: int, seconds: int, beside: Sequence[tuple[bytes, bytes, int]] = ()
    ) -> tuple[int | None, int | None, bool]:
        """Put `value` in the place of the item that has `cas`, or of none for 0, for so many seconds.

        With it go the items `beside`, (name, value, seconds or date), which are stored anyway.

        Returns the new item's CAS, or None when another was faster; how many seconds the item
        that was there just before would have had left; and whether all items beside were stored.
        """
        condition = b"C%d" % cas if cas else b"ME"
        packet = b"mg %b t\r\nms %b %d %b T%d c\r\n%b\r\n" % (name, name, len(value), condition, seconds, value)
        for item in beside:
            packet += b"ms %b %d T%d\r\n%b\r\n" % (item[0], len(item[1]), item[2], item[1])
        self._stream.send(packet)
        new_cas, left = self._swapped()
        stored = [self._stored() for _ in beside]
        return new_cas, left, all(stored)

    def _swapped(self) -> tuple[int | None, int | None]:
        code, words = self._answer()
        if code not in (b"HD", b"EN"):
            raise self._nonsense(code)
        left = self._left(self._flags(words)) if code == b"HD" else None
        code, words = self._answer()
        if code in (b"NS", b"EX", b"NF"):
            return None, left
        if code != b"HD":
            raise self._nonsense(code)
        return self._cas(self._flags(words)), left

    def _stored(self) -> bool:
        """Read the answer to one item beside: what the server has no room for is not worth a failure."""
        line = self._line()
        if line.startswith(b"SERVER_ERROR"):
            return False
        if line not in (b"HD", b"NS"):
            raise self._nonsense(line)
        return line == b"HD"

    def statistics(self) -> dict[str, Any]:
        """Return what ``stats`` says, by name; numbers as numbers."""
        # Off the way of a plain run: this import costs three interpreter starts.
        from pymemcache.client.base import Client
        from pymemcache.exceptions import MemcacheError

        client = Client("unused")
        client.sock = _Socket(self._stream)
        try:
            answer = client.stats()
        except (MemcacheError, ValueError, LookupError) as error:
            raise BackendUnavailable(f"{self._name}: no statistics: {error}") from error
        plain = {_text(name): _text(value) for name, value in answer.items()}
        if not isinstance(plain.get("uptime"), int) or plain["uptime"] < 0:
            raise BackendUnavailable(f"{self._name}: no statistics: the server does not tell its uptime")
        return plain

    def _answer(self) -> tuple[bytes, list[bytes]]:
        line = self._line()
        words = line.split()
        if line.startswith(b"ERROR Too many open connections"):
            raise Busy(f"{self._name}: the server has no room for another connection: raise its limit (-c)")
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
            raise self._nonsense(line)
        self._heard = True
        return words[0], words[1:]

    def _line(self) -> bytes:
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if end:
                self._buffer = rest
                return line
            if len(line) > _LONGEST_LINE:
                raise self._nonsense(line)
            self._receive()

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        block, self._buffer = self._buffer[:size], self._buffer[size:]
        return block

    def _receive(self) -> None:
        try:
            self._buffer += self._stream.receive()
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
        if not word.isdigit() or len(word) > 20:
            raise self._nonsense(word)
        return int(word)

    def _nonsense(self, data: bytes) -> BackendUnavailable:
        return BackendUnavailable(f"{self._name}: does not answer as memcached does: {data[:60]!r}")


class _Socket:
    """A stream as the socket that pymemcache wants, so that its answers are bounded too."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._received = 0

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        self._stream.send(data)

    def recv(self, _size: int) -> bytes:
        """Return the next bytes, more than `_size` perhaps: the client takes any number."""
        data = self._stream.receive()
        self._received += len(data)
        if self._received > _LONGEST_STATISTICS:
            raise BackendUnavailable("the statistics do not end: it is not memcached")
        return data

    def close(self) -> None:
        """Leave the stream to its owner, who drops it after a failure."""


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
