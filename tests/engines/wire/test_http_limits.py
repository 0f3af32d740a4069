"""HTTP servers that are slow, never stop, or hang up; and what is shown of their answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from cronlock.engines.wire.http import LONGEST, Connection, Unanswered
from cronlock.engines.wire.stream import ServerBusy
from cronlock.errors import BackendUnavailable
from labs.servers.process import HOST, free_port

from .little_server import ask, talking_to


@pytest.mark.parametrize(
    "answer",
    [
        b"secret",
        b"HTTP/1.1 200 OK\r\nsecret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: secret\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nsecret\r\n",
    ],
)
def test_nothing_of_the_answer_is_shown(answer: bytes) -> None:
    """A value that is not valid in HTTP may still be a secret."""
    with talking_to(answer + b"\r\n\r\n", hangs_up=True) as (connection, _), pytest.raises(Unanswered) as caught:
        ask(connection)
    assert "secret" not in str(caught.value)
    assert "ecre" not in str(caught.value)


def _pour(first: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def pour(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)

    return pour


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 999),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 999),
        (b"", b"\r\n" * 999),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 99),
    ],
)
def test_answer_that_never_ends(first: bytes, piece: bytes) -> None:
    """It is given up on by its size, long before the time limit."""
    with talking_to(_pour(first, piece), longest=1 << 16) as (connection, _), pytest.raises(Unanswered) as caught:
        ask(connection, 300.0)
    assert "in time" not in str(caught.value)


def test_longest_answer() -> None:
    """The limit is what is said, and may be another one."""
    for length, fits in ((LONGEST // 2, True), (LONGEST, False)):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length
        with talking_to(answer) as (connection, server):
            if fits:
                assert len(ask(connection).body) == length
            else:
                with pytest.raises(Unanswered, match="longer than"):
                    ask(connection)
                larger = Connection("larger", HOST, server.port, longest=2 * LONGEST)
                assert len(ask(larger).body) == length
                larger.close()


def test_answer_drop_by_drop() -> None:
    """Each byte comes in time and the answer does not: the limit is one for all of it."""

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    with talking_to(drip) as (connection, _):
        connection.connect(time.monotonic() + 10)
        began = time.monotonic()
        with pytest.raises(Unanswered, match="no answer in time"):
            ask(connection, 2.0)
        assert time.monotonic() - began >= 1.95


def test_reset() -> None:
    """A reset in the middle of an answer that ends with the connection does not end it."""

    def reset(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    with talking_to(reset) as (connection, _), pytest.raises(Unanswered):
        ask(connection)


def test_nothing_was_done() -> None:
    """A request that could not be sent whole was not done."""
    nobody = Connection("test://nobody", HOST, free_port())
    with pytest.raises(BackendUnavailable, match="refused") as caught:
        ask(nobody)
    assert not isinstance(caught.value, Unanswered)
    with socket.create_server((HOST, 0)) as deaf:
        connection = Connection("test://deaf", HOST, deaf.getsockname()[1])
        with pytest.raises(BackendUnavailable, match="in time") as caught:
            ask(connection, 0.5, b"x" * 20_000_000)
        assert not isinstance(caught.value, (Unanswered, ServerBusy))
        connection.close()


def test_deaf_server() -> None:
    """The kernel takes the request for a server that never reads it: it may have been done."""
    with socket.create_server((HOST, 0)) as deaf:
        connection = Connection("test://deaf", HOST, deaf.getsockname()[1])
        connection.connect(time.monotonic() + 10)
        with pytest.raises(Unanswered, match="in time"):
            ask(connection, 2.0)
        connection.close()
