"""The meta protocol's parser: strict, bounded, and one kind of failure for whatever is not memcached."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cronlock.engines.memcached.item import State
from cronlock.engines.memcached.meta import Connection
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
    """Whatever comes, a request gives an answer or BackendUnavailable."""
    requests: list[_Ask] = [
        lambda connection: connection.get(b"name"),
        lambda connection: connection.swap(b"name", b"value", 3, 60),
        lambda connection: connection.swap(b"name", b"value", 3, 60, [(b"one", b"1", 60)]),
        lambda connection: connection.get_all([b"name", b"one"]),
        lambda connection: connection.statistics(),
    ]
    for ask in requests:
        try:
            ask(_connection(*pieces))
        except BackendUnavailable:
            pass


_FIELDS = st.sampled_from(
    [b"fence=1", b"lease=1", b"hold=x", b"hold=0", b"run.owner=a", b"run.pid=x", b"gone=", b"success=a", b"=", b""]
)


@given(
    st.binary(max_size=60) | st.lists(_FIELDS, max_size=8).map(lambda lines: b"\n".join([b"cronlock=1", *lines, b""]))
)
def test_no_value_raises_anything_else(data: bytes) -> None:
    """Whatever lies under a name is a state or foreign."""
    try:
        State.decode(data)
    except ForeignValue:
        pass


def test_answers_may_come_in_pieces() -> None:
    """An item is put together from however many pieces it comes in."""
    pieces = [bytes([byte]) for byte in b"VA 4 t12 c7\r\na\r\nb\r\n"]
    item = _connection(*pieces).get(b"name")
    assert item is not None
    assert (item.value, item.left, item.cas) == (b"a\r\nb", 12, 7)


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        (b"HD\r\nHD\r\n", True),
        (b"HD\r\nNS\r\n", False),
        (b"SERVER_ERROR out of memory storing object\r\nHD\r\n", False),
    ],
)
def test_items_beside_need_not_be_stored(answer: bytes, stored: bool) -> None:
    """What becomes of the items beside is told, and does not count for the swap."""
    connection = _connection(b"HD t5\r\nHD c7\r\n" + answer + b"EN\r\n")
    beside = [(b"one", b"1", 60), (b"two", b"2", 60)]
    assert connection.swap(b"name", b"value", 3, 60, beside) == (7, 5, stored)
    # Nothing of the answer is left for the next request.
    assert connection.get(b"name") is None


def test_what_is_sent_is_one_packet() -> None:
    """A swap with items beside, and a look at several, are each sent at once."""
    tape = _Tape([b"EN\r\nHD c7\r\nHD\r\n", b"EN\r\nVA 1 t5 c8\r\nx\r\n"])
    connection = Connection("tape", cast(Stream, tape))
    assert connection.swap(b"n", b"value", 0, 60, [(b"one", b"1", 90)]) == (7, None, True)
    assert tape.sent == b"mg n t\r\nms n 5 ME T60 c\r\nvalue\r\nms one 1 T90\r\n1\r\n"
    nothing, item = connection.get_all([b"a", b"b"])
    assert nothing is None
    assert item is not None
    assert item.value == b"x"


@pytest.mark.parametrize("endless", [b"x", b"VA 16384 t1 c1\r\n" + b"x" * 20000, b"STAT a b\r\n", b"HD t"])
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
        (b"VA 1000000 t1 c1\r\n", "not cronlock's"),
        (b"VA 2 t1 c0\r\nab\r\n", "without CAS"),
        (b"VA 2 t1 c1\r\nabcd", "not answer as memcached"),
        (b"", "1.6.10"),
    ],
)
def test_refusals_say_what_to_do(answer: bytes, said: str) -> None:
    """What the server will not do is told in words that help."""
    with pytest.raises(BackendUnavailable, match=said):
        _connection(*([answer] if answer else [])).get(b"name")
