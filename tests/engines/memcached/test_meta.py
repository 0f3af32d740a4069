"""The meta protocol's parser: strict, bounded, and one kind of failure for whatever is not memcached."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cronlock.engines.memcached.item import cell_of
from cronlock.engines.memcached.meta import Connection, Item
from cronlock.engines.wire.stream import Stream
from cronlock.errors import BackendUnavailable, ForeignValue


class _Tape:
    """What a server would answer, in pieces, and then the end of the stream."""

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


_CODES = [b"HD", b"VA", b"EN", b"NS", b"EX", b"NF", b"MN", b"OK", b"ERROR", b"STAT uptime 5", b"END"]
_FLAGS = [b"t", b"c", b"t12", b"t-1", b"c0", b"c7", b"7", b"0", b"-1", b"9" * 25, b"\xd9\xa3"]
_BREAKS = [b" ", b"\r\n", b"\r", b"\n", b"\xff", b"\0"]
_REFUSALS = [b"SERVER_ERROR out of memory", b"CLIENT_ERROR bad", b"HTTP/1.1 400 Bad Request"]
_WORDS = st.sampled_from([*_CODES, *_FLAGS, *_BREAKS, *_BREAKS, *_REFUSALS])
_ANSWERS = st.lists(st.lists(_WORDS | st.binary(max_size=8), max_size=12).map(b"".join).filter(bool), max_size=6)


_Ask = Callable[[Connection], object]


@given(_ANSWERS)
@example([b"VA 2 t5 c1\r\nab\r\n"])
@example([b"HD t5\r\n", b"HD c0\r\n"])
@example([b"STAT uptime\r\nEND\r\n"])
@example([b"STAT\r\nEND\r\n"])
@example([b"VALUE a b c\r\nEND\r\n"])
def test_no_answer_raises_anything_else(pieces: list[bytes]) -> None:
    """Whatever comes, a request gives an answer or the error that it may raise."""
    requests: list[_Ask] = [
        lambda connection: connection.get(b"name"),
        lambda connection: connection.swap(b"name", b"value", 3, 60),
        lambda connection: connection.delete(b"name", 3),
        lambda connection: connection.statistics(),
        lambda connection: connection.uptime(),
    ]
    for ask in requests:
        try:
            ask(_connection(*pieces))
        except (BackendUnavailable, ForeignValue):
            pass


_WORDS_OF_ITEMS = st.sampled_from(
    [b"lease=1", b"lease=", b"hold=1", b"hold=x", b"hold=0", b"swap=a", b"=", b"", b"9" * 20]
)


@given(
    st.binary(max_size=60) | st.lists(_WORDS_OF_ITEMS, max_size=4).map(b" ".join), st.none() | st.integers(0, 1 << 64)
)
@example(b"lease=1 hold=1 swap=a\nrecord\n", 5)
def test_no_value_raises_anything_else(data: bytes, left: int | None) -> None:
    """Whatever lies under a name is a cell or foreign."""
    try:
        cell = cell_of(Item(data, left, 1), _connection(), 100.0, 5)
    except ForeignValue:
        return
    assert data.endswith(b"\n" + cell.data) if cell.data else b"\n" not in data[:-1]
    assert min(cell.lease, cell.hold) >= 0


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
    """Statistics are told by name, of one group, by pymemcache; what is not printable is left out."""
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
        (b"HTTP/1.1 400 Bad Request\r\n", "not answer as memcached"),
        (b"VA 2 t1 c0\r\nab\r\n", "without CAS"),
        (b"VA 2 t1 c1\r\nabcd", "not answer as memcached"),
        (b"", "1.6.10"),
    ],
)
def test_refusals_say_what_to_do(answer: bytes, said: str) -> None:
    """What the server will not do is told in words that help."""
    with pytest.raises(BackendUnavailable, match=said):
        _connection(*([answer] if answer else [])).get(b"name")
