"""The meta protocol's parser: strict, bounded, and one kind of failure for whatever is not memcached."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from cronlock.engines.memcached.meta import Connection
from cronlock.engines.wire.stream import Stream
from cronlock.errors import BackendUnavailable


class _Tape:
    """A stream that yields replies in pieces, and then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = list(pieces)
        self.sent = b""

    def send(self, data: bytes) -> None:
        """Keep what was sent."""
        self.sent += data

    def receive(self) -> bytes:
        """Return the next piece."""
        if not self._pieces:
            raise BackendUnavailable("tape: the server closed the connection")
        return self._pieces.pop(0)


def _connection(*pieces: bytes) -> Connection:
    return Connection("tape", cast(Stream, _Tape(list(pieces))))


_Ask = Callable[[Connection], object]


def test_answers_may_come_in_pieces() -> None:
    """An item is put together from however many pieces it comes in."""
    pieces = [bytes([byte]) for byte in b"VA 4 t12 c7\r\na\r\nb\r\n"]
    item = _connection(*pieces).get(b"name")
    assert item is not None
    assert (item.value, item.left, item.cas) == (b"a\r\nb", 12, 7)


def test_what_is_sent_is_one_packet() -> None:
    """A swap, which looks at the item's age too, is sent at once, and nothing of its answer is left."""
    tape = _Tape([b"EN\r\nHD c7\r\n", b"HD t5\r\nEX\r\n", b"EN\r\n"])
    connection = Connection("tape", cast(Stream, tape))
    assert connection.swap(b"n", b"value", 0, 60) == (7, None)
    assert tape.sent == b"mg n t\r\nms n 5 ME T60 c\r\nvalue\r\n"
    assert connection.swap(b"n", b"value", 7, 60) == (None, 5)
    assert tape.sent.endswith(b"mg n t\r\nms n 5 C7 T60 c\r\nvalue\r\n")
    assert connection.get(b"n") is None


def test_statistics() -> None:
    """Statistics of one group are read by name, by pymemcache, without unprintable characters."""
    tape = _Tape([b"STAT version 1.6.18\r\nSTAT uptime 7\r\nSTAT \xff\x1b[2J a b\r\nEND\r\n"] * 2 + [b"END\r\n"])
    connection = Connection("tape", cast(Stream, tape))
    assert connection.statistics(b"settings") == {"version": "1.6.18", "uptime": "7", "\ufffd[2J": "a"}
    assert connection.uptime() == 7
    with pytest.raises(BackendUnavailable):
        connection.uptime()
    assert tape.sent == b"stats settings\r\nstats\r\nstats\r\n"


@pytest.mark.parametrize("endless", [b"x", b"VA 65536 t1 c1\r\n" + b"x" * 70000, b"STAT a b\r\n", b"HD t"])
def test_endless_answers_are_cut_off(endless: bytes) -> None:
    """An answer without an end is given up after a bounded number of bytes."""
    read = 0

    class Endless(_Tape):
        def receive(self) -> bytes:
            nonlocal read
            read += len(endless)
            return endless

    requests: list[_Ask] = [lambda connection: connection.get(b"name"), lambda connection: connection.statistics()]
    for ask in requests:
        read = 0
        with pytest.raises(BackendUnavailable):
            ask(Connection("tape", cast(Stream, Endless([]))))
        assert read < 3 << 20


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"ERROR\r\n", "1.6.10"),
        (b"CLIENT_ERROR bad command line format\r\n", "1.6.10"),
        (b"SERVER_ERROR out of memory storing object\r\n", "out of memory"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is this really memcached"),
        (b"VA 2 t1 c0\r\nab\r\n", "without CAS"),
        (b"VA 2 t1 c1\r\nabcd", "is this really memcached"),
        (b"", "1.6.10"),
    ],
)
def test_refusals_say_what_to_do(answer: bytes, said: str) -> None:
    """A refusal of the server's is explained, with a remedy."""
    with pytest.raises(BackendUnavailable, match=said):
        _connection(*([answer] if answer else [])).get(b"name")
